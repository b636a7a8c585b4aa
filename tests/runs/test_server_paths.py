"""No path of the server in what a node said; everything else stays."""

import pytest

from sidecar.runs.models import RunError
from sidecar.runs.outputs import verdict
from sidecar.runs.server_paths import without_server_paths


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("No such file: '/home/ann/models/x.safetensors'", "No such file: '.../x.safetensors'"),
        ('File "/opt/comfy/nodes.py", line 12, in load', 'File ".../nodes.py", line 12, in load'),
        ("cannot open /home/ann/My Stuff/comfy/a.png", "cannot open .../a.png"),
        ("error:/var/lib/comfy", "error:..."),
        ("see file:///etc/passwd, please", "see file://..., please"),
        ("PosixPath('/data/x y/z') is a folder", "PosixPath('...') is a folder"),
        ("/a/b.pt and /c/d.pt differ", ".../b.pt and .../d.pt differ"),
        ("/home/o'brien/x.png failed", ".../x.png failed"),
        ("//mnt//share/x.pt", ".../x.pt"),
        ("at C:\\Users\\Ann Lee\\x.ckpt, line 5", "at .../x.ckpt, line 5"),
        ("'C:\\\\Users\\\\ann\\\\x.png' is bad", "'.../x.png' is bad"),
        ("C:\\Program Files (x86)\\comfy\\run.bat: bad", ".../run.bat: bad"),
        ("D:/comfy/output is full", "... is full"),
        ("\\\\server\\share\\a.txt is locked", ".../a.txt is locked"),
        ("\\\\?\\C:\\x\\y.bin is locked", ".../y.bin is locked"),
        ("/home/\u00fcser/\u5199\u771f.png", ".../\u5199\u771f.png"),
    ],
)
def test_an_absolute_path_is_cut_down_to_the_files_name(said: str, shown: str) -> None:
    assert without_server_paths(said) == shown


@pytest.mark.parametrize(
    "said",
    [
        "mat1 and mat2 shapes cannot be multiplied (77x768 and 1024x320)",
        "and/or, 3 / 4, 12 km/h, 5it/s, [1/2]",
        "loras/style.safetensors is not in ./models or ../models",
        "see https://docs.comfy.org/errors#7 or http://127.0.0.1:8188/view",
        "expected \\d+ or \\w+; a line\nand another: C: is a drive",
        "",
    ],
)
def test_everything_else_stays_as_it_was_said(said: str) -> None:
    assert without_server_paths(said) == said


@pytest.mark.parametrize("said", ["'/a'x" * 4000, "/a " * 8000, "\\" * 20_000, "/(a" * 8000])
def test_a_run_says_no_more_than_is_readable_however_long_the_text(said: str) -> None:
    error = _error(said)
    assert len(error.message) <= 2000


def test_a_failed_node_does_not_tell_where_the_server_keeps_its_files() -> None:
    assert _error("[Errno 13] Permission denied: '/srv/comfy/a.png'").message == (
        "[Errno 13] Permission denied: '.../a.png'"
    )


def _error(said: str) -> RunError:
    data = {"exception_type": "OSError", "exception_message": said, "node_id": "6"}
    _, error = verdict({"status": "error", "messages": [["execution_error", data]]})
    assert error is not None
    return error
