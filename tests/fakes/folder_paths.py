"""ComfyUI's folders: LoRA folders in order, and the user's."""

from pathlib import Path

loras: list[str] = []
user = ""


def get_folder_paths(folder_name: str) -> list[str]:
    """The folders of that kind of model."""
    assert folder_name == "loras"
    return loras


def get_user_directory() -> str:
    """Where settings live."""
    return user


def get_filename_list(folder_name: str) -> list[str]:
    """The names of all files with a model's extension, below the folders of that kind."""
    return [
        str(file.relative_to(folder))
        for folder in get_folder_paths(folder_name)
        for file in sorted(Path(folder).rglob("*.safetensors"))
    ]


def get_full_path(folder_name: str, filename: str) -> str | None:
    """The file of that name in the first folder that has it."""
    for folder in get_folder_paths(folder_name):
        file = Path(folder, filename)
        if file.is_file():
            return str(file)
    return None
