"""``kdlib progress``."""

from kdlib.cli._output import console, say


def progress() -> None:
    """Show which exercises of the course have passed on this machine."""
    from rich.table import Table

    from kdlib.exercises.progress import passed
    from kdlib.exercises.registry import lesson_of, titles

    found, every = passed(), titles()
    if not found & every.keys():
        say(
            "No exercise has passed here yet. Open a lesson with make lab, write your answer into the cell of an "
            "exercise, and run it and the cell below. If you have solved some already, run this command in the folder "
            "of the project."
        )
        return
    table = Table("lesson", "passed", "next exercise", box=None)
    for lesson in dict.fromkeys(map(lesson_of, every)):
        numbers = [number for number in every if lesson_of(number) == lesson]
        open_ones = [number for number in numbers if number not in found]
        following = f"{open_ones[0]} {every[open_ones[0]]}" if open_ones else "all solved"
        table.add_row(lesson, f"{len(numbers) - len(open_ones)} of {len(numbers)}", following)
    console.print(table, highlight=False)
