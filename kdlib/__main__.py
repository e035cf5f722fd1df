"""``python -m kdlib`` does what ``kdlib`` does."""

from kdlib.cli import app

if __name__ == "__main__":
    app(prog_name="kdlib")
