"""What came of the checks, for a person."""


class Report:
    """Prints each check as it comes, and what failed in the end."""

    def __init__(self):
        self.lines = []

    @property
    def all_held(self):
        return bool(self.lines) and all(held for held, _ in self.lines)

    def section(self, text):
        print(f"\n{text}", flush=True)

    def check(self, held, text):
        self.lines.append((bool(held), text))
        print(f"  {'ok' if held else '!!'}  {text}", flush=True)

    def note(self, text):
        """A number or a table that is shown and not judged."""
        print("\n".join(f"      {line}" for line in text.rstrip().splitlines()), flush=True)

    def print_summary(self):
        held = sum(held for held, _ in self.lines)
        print()
        for ok, text in self.lines:
            if not ok:
                print(f"not as expected: {text}")
        print(f"{held} passed, {len(self.lines) - held} failed")
