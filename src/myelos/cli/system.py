"""`info`, `models` and `doctor`: what there is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from myelos.cli import common
from myelos.errors import MyelosError

if TYPE_CHECKING:
    from myelos.models.files import ModelCard


def add(app: typer.Typer) -> None:
    app.command(epilog="Example: myelos info slide.svs")(info)
    app.command(epilog="Examples:\n\nmyelos models\n\nmyelos models blood")(models)
    app.command(epilog="Example: myelos doctor")(doctor)


def info(
    files: Annotated[list[Path], typer.Argument(help="Slides or fields.")],
    mpp: common.Mpp = None,
    as_json: common.AsJson = False,
) -> int:
    """Size, resolution, levels and fingerprint of images."""
    from myelos.slides.info import describe

    common.check_mpp(mpp)
    found: list[dict[str, Any]] = []
    failed: list[MyelosError] = []
    for path in files:
        try:
            found.append(describe(path, mpp))
        except MyelosError as error:
            failed.append(error)
    if as_json:
        common.print_json(found if len(files) > 1 else next(iter(found), None))
    elif found:
        typer.echo("\n\n".join(lines(entry) for entry in found))
    for one in failed:
        common.fail(one)
    return 0 if not failed else 3 if found else failed[0].exit_code


def lines(content: dict[str, Any]) -> str:
    """One line an entry, names in a column."""
    shown = {key: value for key, value in content.items() if value not in (None, [], "")}
    shown["levels"] = ", ".join(f"{level['width']} × {level['height']}" for level in content["levels"])
    shown["warnings"] = "; ".join(content["warnings"])
    return "\n".join(f"{name.replace('_', ' '):<14} {value}" for name, value in shown.items() if value != "")


def models(
    name: Annotated[str | None, typer.Argument(help="A model's name or file: print its whole card.")] = None,
    as_json: common.AsJson = False,
) -> None:
    """The shipped models: what they name, on what they were trained and tested. With a name, the whole card."""
    from myelos.models import available
    from myelos.models.files import find, read_card

    cards = available() if name is None else [read_card(find(name))]
    if as_json:
        keys = ["name", "kind", "question", "specimen", "types", "mpp", "threshold"]
        keys += ["synthetic_only", "metrics", "data", "version", "int8", "runs_in"]
        common.print_json([{key: getattr(card, key) for key in keys} for card in cards])
        return
    if not cards:
        typer.echo("No model is shipped with this installation. Train one with `myelos train detector`.")
    elif name is not None:
        typer.echo(cards[0].text.strip())
        if cards[0].kind != "detector":
            typer.echo(f"\nOn CPUs it {common.told_of_int8(cards[0])}.")
    else:
        told = "Anything that stands under neither is untested. What a model cannot name: myelos models NAME"
        typer.echo("\n\n".join([*(short(card) for card in cards), told]))


def short(card: ModelCard) -> str:
    """A model in four lines."""
    trained = ", ".join(str(row["source"]) for row in card.data) or "not stated"
    rows = {
        "names": f"yes or no to {card.question}" if card.question else ", ".join(card.types),
        "trained on": trained + (" (synthetic images only)" if card.synthetic_only else ""),
        "tested on": ", ".join(card.metrics) or "nothing",
    }
    if card.kind != "detector":
        rows["on CPUs"] = common.told_of_int8(card)
    lines = [f"  {what:<11} {text}" for what, text in rows.items()]
    return "\n".join([f"{card.name}: {card.kind} for {card.specimen}", *lines])


def doctor(as_json: common.AsJson = False) -> int:
    """What is installed, what is slow or missing, and what to do about it."""
    from myelos.cli.checks import run_all

    found = run_all()
    if as_json:
        common.print_json([vars(check) for check in found])
    else:
        for check in found:
            sys.stdout.write(f"{check.state:<8} {check.name:<22} {check.found}\n")
            if check.remedy:
                sys.stdout.write(f"{'':<8} {'':<22} → {check.remedy}\n")
    return 1 if any(check.state == "missing" for check in found) else 0
