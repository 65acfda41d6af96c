"""`--help`: worked examples, then the groups and keys as the shipped configurations have them."""

from __future__ import annotations

from collections.abc import Sequence

from pointseg.cli import checks

__all__ = ["help_of"]


def help_of(verb: str, examples: str, arguments: Sequence[str]) -> str:
    """What `--help` says.

    Args:
        examples: that it begins with.
        arguments: those given beside --help; GROUP=OPTION chooses what is shown of a group.
    """
    config = (checks.config_folder() / f"{verb}.yaml").read_text(encoding="utf-8")
    shown = config.split("\nhydra:")[0].split("\n", 1)[1].rstrip()
    used = {name: options for name, options in checks.groups().items() if f"- {name}:" in config}
    if verb == "train":
        used["+experiment"] = checks.groups()["experiment"]
    lines = [examples.strip(), *(["", "Configuration groups (GROUP=OPTION):"] if used else [])]
    lines += [f"  {name:<12} {' | '.join(options)}" for name, options in used.items()]
    lines += [
        "",
        f"Keys (KEY=VALUE), from {checks.config_folder() / verb}.yaml; -m sweeps over comma-separated values:",
    ]
    lines += [f"  {line}".rstrip() for line in shown.splitlines()]
    for name in used:
        chosen = [word.partition("=")[2] for word in arguments if word.startswith(f"{name}=")]
        option = checks.config_folder() / name / f"{chosen[-1] if chosen else _default_option(config, name)}.yaml"
        if option.is_file():
            lines += [
                "",
                f"{name}={option.stem}:",
                *(f"  {line}".rstrip() for line in option.read_text("utf-8").splitlines()),
            ]
    return "\n".join(lines)


def _default_option(config: str, group: str) -> str:
    line = next((line for line in config.splitlines() if f"- {group}:" in line), ":")
    return line.partition(":")[2].partition("#")[0].strip().strip('"')
