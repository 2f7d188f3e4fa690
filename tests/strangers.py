"""Packages of other people that bring methods, as pip would have installed them."""

METHOD = """
from sfumato.methods.edit_friendly import EditFriendlyParams
from sfumato.methods.registry import method
{before}
@method(
    {name!r},
    summary="a test of strangers",
    params=EditFriendlyParams,
    inversion="edit-friendly",
    handles={handles!r},
)
def shifts(job, params):
    return []
{after}
"""


def install(folder, package, name, before="", after="", handles=()):
    """A package with one module and one entry point in a folder that is on the path."""
    (folder / f"{package}.py").write_text(METHOD.format(name=name, before=before, after=after, handles=handles))
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sfumato.methods]\n{name} = {package}\n")
