"""The verb ``serve``: a calibrated model behind OpenAI's interface."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cogcalib.cli.console import endpoint_errors, shown, write_results
from cogcalib.cli.options import add_fields, read_fields
from cogcalib.records import AUTO, DTYPES, InputError, input_errors

if TYPE_CHECKING:
    import socket

    from cogcalib.deployment.access import ModelAccess
    from cogcalib.deployment.calibration_file import Calibration
    from cogcalib.deployment.predictor import Predictor
    from cogcalib.serving.serve_settings import ServeSettings

HELP = "serve a calibrated model to clients of OpenAI's interface"

LIBRARIES = ("fastapi", "uvicorn", "prometheus_client")
RENAMED = {"api_key_env": "endpoint_key_env", "timeout": "endpoint_timeout"}
"""Fields of `ModelAccess` whose names are the server's own here."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    from cogcalib.deployment.access import REMOTE, ModelAccess
    from cogcalib.serving.serve_settings import ServeSettings

    parser.add_argument("model", metavar="MODEL", help="folder or hub id, with calibration.json")
    parser.add_argument(
        "--calibration", type=Path, metavar="DIR", help="folder that has calibration.json instead"
    )
    parser.add_argument(
        "--target-error", type=float, metavar="X", help="obey the recorded rule with this target"
    )
    add_fields(parser, ModelAccess, without=REMOTE, values={"dtype": (AUTO, *DTYPES)})
    add_fields(parser.add_argument_group("server"), ServeSettings)
    remote = parser.add_argument_group(
        "endpoint", "serve the confidence of a model that another server has"
    )
    add_fields(remote, ModelAccess, only=[name for name in REMOTE if name not in RENAMED])
    remote.add_argument(
        "--endpoint-key-env", metavar="NAME", help="environment variable of that server's key"
    )
    remote.add_argument(
        "--endpoint-timeout", type=float, metavar="X", help="seconds to wait for its answer"
    )


def execute(options: argparse.Namespace) -> None:
    """Take the port, load the model, serve until a signal comes."""
    from cogcalib.serving.serve_settings import ServeSettings

    check_libraries()
    with input_errors():
        settings = ServeSettings(**read_fields(options, ServeSettings))
        access = _access(options)
    from cogcalib.serving.run_server import take_port

    with take_port(settings.host, settings.port) as taken:
        with endpoint_errors(), input_errors():
            predictor = _open(options, access)
        _serve(options, predictor, settings, taken)


def check_libraries() -> None:
    """Raise if what the server stands on is not installed.

    Raises:
        InputError: Naming what to install.
    """
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'serve needs {", ".join(missing)}: pip install "cogcalib[serve]"')


def _access(options: argparse.Namespace) -> ModelAccess:
    from cogcalib.deployment.access import ModelAccess

    given = read_fields(options, ModelAccess)
    return ModelAccess(**given | {name: getattr(options, there) for name, there in RENAMED.items()})


def _open(options: argparse.Namespace, access: ModelAccess) -> Predictor:
    from cogcalib.deployment.predictor import open_predictor

    predictor = open_predictor(options.model, access, options.calibration)
    return replace(predictor, calibration=predictor.obeying(options.target_error))


def _serve(
    options: argparse.Namespace,
    predictor: Predictor,
    settings: ServeSettings,
    taken: socket.socket,
) -> None:
    from cogcalib.modeling.model_files import public_name
    from cogcalib.serving.asked import Answering
    from cogcalib.serving.run_server import address, make_server, run

    name = settings.name or options.served_name or public_name(options.model)
    answering = Answering(predictor.backend, predictor.calibration, settings.max_prompt)
    server = make_server(answering, name, settings)
    print(shown(f"cogcalib: {name} at {address(taken)}; {about(predictor.calibration)}"))
    if options.json is not None:
        ready = {"name": name, "address": address(taken), "confidence": predictor.calibration.map}
        write_results(options.json, ready | {"rules": predictor.calibration.rules})
    sys.stdout.flush()
    run(server, taken)
    print("cogcalib: finished")


def about(calibration: Calibration) -> str:
    """A line on how confidences are calibrated, and when an answer abstains."""
    fitted, confidence = calibration.map, "the model's own confidence"
    if fitted is not None:
        confidence = f"confidence by {fitted.method}, fitted on {fitted.n} questions"
    elif calibration.folded_temperature is not None:
        confidence += f", with the temperature {calibration.folded_temperature:.3g} in the weights"
    if not calibration.rules:
        return f"{confidence}; no abstention rule"
    rule = calibration.rules[0]
    if rule.threshold is None:
        return f"{confidence}; every answer abstains: {rule.reason}"
    return (
        f"{confidence}; abstains below {rule.threshold:.3g} "
        f"(target error {100 * rule.target_error:g} %)"
    )
