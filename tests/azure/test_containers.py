"""Container groups: the script and the real SDK against the stand-in; `az` is a program of the tests that writes down its words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from azure_fixtures import azure, client, cluster, code, here, running, scans, started
from batch_helpers import write_bundle
from verbs import Done, run, succeed

from pointseg.azure.containers.group import ContainerSettings, GroupSecrets, WantedGroup, group_definition
from pointseg.azure.containers.image import image_builds
from pointseg.azure.containers.tls import Certificate, caddyfile
from pointseg.core.errors import ConfigError
from pointseg.engine.predictor import Predictor
from pointseg.workflows.settings.deploy import AciConfig

pytestmark = pytest.mark.azure

GROUP, KEY = "street", "a-key-for-tests-0123456789"
SUBNET = (
    "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/Microsoft.Network/"
    "virtualNetworks/net/subnets/inner"
)
IMAGE = "example.azurecr.io/scoring"
QUICK = ("aci.wait_seconds=20", "aci.pause_seconds=0.05", "aci.location=eastus")


def deploy(here: Path, *words: str, **environment: str) -> Done:
    environment = {"POINTSEG_KEY": KEY, **environment}
    return run("deploy", "target=aci", f"endpoint={GROUP}", *QUICK, *words, cwd=here, **environment)


def settings(**values: Any) -> ContainerSettings:
    names = ContainerSettings.__dataclass_fields__
    given = {key: value for key, value in asdict(AciConfig()).items() if key in names}
    return ContainerSettings(**{**given, "location": "eastus", "dns": GROUP, **values})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture
def fresh(azure: Any) -> Iterator[None]:
    """No group, before and after."""
    yield
    azure.faults.clear()
    for group in groups(azure):
        azure.store.delete(group["id"])


def groups(azure: Any) -> list[Any]:
    return [one for one in azure.store.everything() if one["type"].endswith("/containerGroups")]


def served(azure: Any) -> str:
    """The image that the group runs."""
    (group,) = groups(azure)
    image: str = group["properties"]["containers"][0]["properties"]["image"]
    return image


def scores(azure: Any, bundle: Path, open_to_all: bool = False) -> Callable[[Any], Any]:
    """What the image does: Healthy at /, labels for the key that the group was given."""
    from stand_in.messages import Answer

    from pointseg.serving.wire import expand

    predictor = Predictor.load(bundle)

    def answer(request: Any) -> Any:
        if request.path == "/":
            return Answer(200, b"Healthy", {"Content-Type": "text/html"})
        if request.path != "/score":
            return Answer(404, b"no such page", {"Content-Type": "text/html"})
        key = azure.containers.secrets[GROUP]["POINTSEG_API_KEY"]
        if request.headers.get("authorization") != f"Bearer {key}" and not open_to_all:
            error = {"error": {"what": "a key is needed", "where": "Authorization", "remedy": ""}, "request_id": "x"}
            return Answer(401, error)
        points = np.frombuffer(expand(request.raw, request.headers.get("content-encoding"), 1 << 30), "<f4")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            labels = predictor(points.reshape(-1, int(request.query.get("columns", 4)))).astype("<u4")
        return Answer(200, labels.tobytes(), {"Content-Type": "application/octet-stream"})

    return answer


# ---- before anything is sent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"cpu": 0}, "aci.cpu"),
        ({"memory": 99}, "aci.memory"),
        ({"dns": "-x"}, "aci.dns"),
        ({"tls": "none"}, "aci.public_http=true"),
        ({"subnet": SUBNET}, "aci.tls=none"),
        ({"tls": "none", "subnet": "inner"}, "aci.subnet"),
        ({"domain": "no domain"}, "aci.domain"),
        ({"environment": {"API_TOKEN": "x"}}, "aci.environment.API_TOKEN"),
        ({"liveness": {"period": 0}}, "aci.liveness.period"),
        ({"registry_identity": "me"}, "aci.registry_identity"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        settings(**values)
    assert key in str(refused.value)


@pytest.mark.parametrize(
    ("words", "environment", "says"),
    [
        ([f"aci.image={IMAGE}:1"], {"POINTSEG_KEY": ""}, "Make one with `openssl rand -hex 32`"),
        ([f"aci.image={IMAGE}:1"], {"POINTSEG_KEY": "short"}, "fewer than 16"),
        ([], {}, "no checkpoint is given"),
        (["checkpoint=x"], {}, "aci.registry"),
        (["aci.image=scoring"], {}, "image with registry and tag"),
        ([f"aci.image={IMAGE}:1"], {"POINTSEG_REGISTRY_USERNAME": "me"}, "user and password is missing"),
        ([f"aci.image={IMAGE}:1", "aci.certificate=c.pem"], {}, "one of certificate and private key"),
    ],
)
def test_what_is_missing_is_said_first(
    tmp_path: Path, words: list[str], environment: dict[str, str], says: str
) -> None:
    assert says in deploy(tmp_path, *words, **environment).message


def test_only_the_proxy_is_public_and_the_key_is_secret() -> None:
    wanted = WantedGroup(GROUP, f"{IMAGE}:1", settings(liveness={"period": 30}), GroupSecrets(KEY))
    body = group_definition(wanted).serialize()
    scoring, proxy = body["properties"]["containers"]
    assert [port["port"] for port in body["properties"]["ipAddress"]["ports"]] == [443, 80]
    assert [port["port"] for port in scoring["properties"]["ports"]] == [5001]
    assert scoring["properties"]["livenessProbe"]["httpGet"] == {"path": "/", "port": 5001, "scheme": "http"}
    assert {"name": "POINTSEG_API_KEY", "secureValue": KEY} in scoring["properties"]["environmentVariables"]
    assert f"{GROUP}.eastus.azurecontainer.io {{" in proxy["properties"]["environmentVariables"][0]["value"]
    assert KEY not in json.dumps({**body, "properties": {**body["properties"], "containers": [proxy]}})
    private = WantedGroup(GROUP, f"{IMAGE}:1", settings(tls="none", subnet=SUBNET), GroupSecrets(KEY))
    address = group_definition(private).serialize()["properties"]["ipAddress"]
    assert (address["type"], [port["port"] for port in address["ports"]]) == ("Private", [5001])


def test_another_key_or_setting_is_another_content() -> None:
    of = {
        WantedGroup(GROUP, image, settings(cpu=cpu), GroupSecrets(key)).content
        for image in (f"{IMAGE}:1", f"{IMAGE}:2")
        for cpu in (1, 2)
        for key in (KEY, KEY + "-")
    }
    assert len(of) == 8
    assert KEY not in "".join(of)


def test_caddy_takes_its_configuration(tmp_path: Path) -> None:
    for own in (False, True):
        text = caddyfile("scoring.example.com", own)
        assert text.count("{") == text.count("}")
        assert "reverse_proxy 127.0.0.1:5001" in text
        assert ("/certificates/chain.pem" in text) == own
    program = os.environ.get("POINTSEG_CADDY") or shutil.which("caddy")
    if program is None:
        pytest.skip("no caddy here (POINTSEG_CADDY names one)")
    (tmp_path / "Caddyfile").write_text(caddyfile("scoring.example.com", False))
    words = [program, "validate", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_certificate_is_looked_at(tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nx\n")
    with pytest.raises(ConfigError, match="passphrase"):
        Certificate.read(str(chain), str(key))
    with pytest.raises(ConfigError, match="holds no private key"):
        Certificate.read(str(chain), str(chain))


def test_what_goes_into_the_image_is_what_its_dockerfile_copies(tmp_path: Path, bundle: Path) -> None:
    base, model = image_builds("example", "pointseg-model", bundle, tmp_path / "first")
    lines = (base.folder / "Dockerfile").read_text().splitlines()
    copied = {word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]}
    assert all((base.folder / name).exists() for name in copied)
    assert {path.name for path in base.folder.iterdir()} == {name.split("/")[0] for name in copied} | {"Dockerfile"}
    assert not list(base.folder.rglob("__pycache__"))
    assert (model.folder / "Dockerfile").read_text() == f"FROM {base.image}\nCOPY bundle /model\n"
    assert {path.name for path in (model.folder / "bundle").iterdir()} == {path.name for path in bundle.iterdir()}
    again = image_builds("example", "pointseg-model", bundle, tmp_path / "second")
    assert [one.name for one in again] == [base.name, model.name]
    other = image_builds("example", "pointseg-model", write_bundle(tmp_path / "b", seed=1), tmp_path / "third")
    assert (other[0].name == base.name, other[1].name == model.name) == (True, False)


# ---- against the stand-in --------------------------------------------------------------------------------------------


def puts(azure: Any) -> list[str]:
    return [
        call.method for call in azure.calls if call.method in ("PUT", "DELETE") and "/containerGroups/" in call.path
    ]


@pytest.mark.slow
def test_a_group_comes_up_is_kept_updated_and_put_back(
    azure: Any, here: Path, bundle: Path, fresh: None, tmp_path: Path
) -> None:
    words = (f"checkpoint={bundle}", f"aci.image={IMAGE}:1")
    azure.containers.scorers["scoring:1"] = scores(azure, bundle)
    done = succeed(deploy(here, *words, "plan=true"))
    assert "it costs as long as it exists: 2 cores, 4 GB" in done.out
    assert puts(azure) == []
    done = succeed(deploy(here, *words))
    assert f"https://{GROUP}.eastus.azurecontainer.io/score" in done.out.splitlines()
    assert "Tested with a scan: 112,692 points" in done.out
    assert KEY not in done.out + done.err
    assert groups(azure)[0]["tags"]["made_by"] == "pointseg"
    done = succeed(deploy(here, *words))
    assert "Nothing to do" in done.out
    assert puts(azure) == ["PUT"]
    azure.containers.logs["scoring:2"] = "loading\nno model at /model\n"  # it never answers
    message = deploy(here, "aci.image=example.azurecr.io/scoring:2", "aci.wait_seconds=0.3").message
    assert "the test with a scan failed" in message
    assert "no model at /model" in message
    assert "is as it was before" in message
    assert served(azure) == f"{IMAGE}:1"
    assert azure.containers.secrets[GROUP]["POINTSEG_API_KEY"] == KEY
    assert "it has not passed its test in this form" in succeed(deploy(here, *words)).out  # it may have another key now
    assert "Nothing to do" in succeed(deploy(here, *words)).out
    azure.faults.add("PUT .*containerGroups/.*", 403)
    assert (
        f"the container group {GROUP} was not touched" in deploy(here, "aci.image=example.azurecr.io/scoring:2").message
    )
    azure.faults.clear()
    assert "Nothing to do" in succeed(deploy(here, *words)).out
    azure.containers.scorers["scoring:3"] = scores(azure, write_bundle(tmp_path / "other", seed=1))
    message = deploy(here, f"checkpoint={bundle}", f"aci.image={IMAGE}:3").message
    assert "of its labels are those of the model that was deployed" in message
    azure.calls.clear()
    done = succeed(deploy(here, f"aci.image={IMAGE}:3", "aci.cpu=1"))  # cores do not change on a group that is there
    assert puts(azure) == ["DELETE", "PUT"]
    assert f"image {IMAGE}:1 -> {IMAGE}:3" in done.out
    done = succeed(
        run(
            "invoke",
            f"url=https://{GROUP}.eastus.azurecontainer.io",
            f"input={_scan(here)}",
            cwd=here,
            POINTSEG_KEY=KEY,
        )
    )
    assert "1 file" in done.out
    done = succeed(run("teardown", "yes=true", "only=[containers]", cwd=here))
    assert "it costs while it runs: 1.25 cores, 4.5 GB" in done.out
    assert groups(azure) == []


def _scan(here: Path) -> Path:
    path = here / "scan.bin"
    np.random.default_rng(0).uniform(0, 1, (500, 4)).astype("<f4").tofile(path)
    return path


@pytest.mark.slow
def test_a_first_group_that_fails_is_removed(azure: Any, here: Path, bundle: Path, fresh: None) -> None:
    azure.containers.scorers["scoring:1"] = scores(azure, bundle, open_to_all=True)
    message = deploy(here, f"aci.image={IMAGE}:1").message
    assert "it answers callers without a key" in message
    assert f"the container group {GROUP} is removed" in message
    assert groups(azure) == []
    azure.faults.add("PUT .*containerGroups/.*", operation_error="the image cannot be pulled")
    message = deploy(here, f"aci.image={IMAGE}:1").message
    assert "the image cannot be pulled" in message
    assert groups(azure) == []
    azure.faults.clear()
    azure.faults.add("PUT .*containerGroups/.*", 403)
    assert "Azure answered 403" in deploy(here, f"aci.image={IMAGE}:1").message
    azure.faults.clear()
    azure.faults.add("GET .*containerGroups/.*", 0)
    assert "cannot be reached" in deploy(here, f"aci.image={IMAGE}:1").message


@pytest.mark.slow
def test_a_group_of_somebody_else_stays(azure: Any, here: Path, bundle: Path, fresh: None) -> None:
    azure.containers.scorers["scoring:1"] = scores(azure, bundle)
    succeed(deploy(here, f"aci.image={IMAGE}:1"))
    (group,) = groups(azure)
    azure.store.put(group["id"], {**group, "tags": {"made_by": "pointseg"}})  # as of a command that was cut off
    assert "it has not passed its test in this form" in succeed(deploy(here, f"aci.image={IMAGE}:1")).out
    (group,) = groups(azure)
    azure.store.put(group["id"], {**group, "tags": {}})
    assert "not made from here" in deploy(here, f"aci.image={IMAGE}:1").message
    assert "Nothing here" in succeed(run("teardown", "yes=true", "only=[containers]", cwd=here)).out
    assert len(groups(azure)) == 1


AZ = """#!{python}
import json, sys
from pathlib import Path
folder = Path({folder!r})
words = sys.argv[1:]
with open(folder / "words", "a") as file:
    file.write(json.dumps(words) + "\\n")
built = folder / "built"
image = words[words.index("--image") + 1]
known = built.read_text().split() if built.exists() else []
if words[:3] == ["acr", "repository", "show"] and image not in known:
    sys.exit("Error: the specified tag does not exist. Correlation ID: 0b1e0000-0000-0000-0000-000000000001")
if words[:2] == ["acr", "import"]:
    with open(built, "a") as file:
        file.write(image + "\\n")
if words[:2] == ["acr", "build"]:
    if (folder / "broken").exists():
        sys.exit("ERROR: step 3/9 failed")
    assert (Path(words[-1]) / "Dockerfile").is_file() and Path(words[words.index("--file") + 1]).is_file()
    with open(built, "a") as file:
        file.write(image + "\\n")
"""


@pytest.mark.slow
def test_the_image_is_built_by_az_once(
    azure: Any, here: Path, bundle: Path, fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (f"checkpoint={bundle}", "aci.registry=example")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    done = deploy(here, *words)
    assert "az is not installed here" in done.message
    assert "az acr build --registry example --image pointseg-scoring:" in done.out
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "az").write_text(AZ.format(python=sys.executable, folder=str(tools)))
    (tools / "az").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    (tools / "broken").touch()
    assert "az acr build failed (ERROR: step 3/9 failed)" in deploy(here, *words).message
    assert groups(azure) == []
    (tools / "broken").unlink()
    plan = succeed(deploy(here, *words, "plan=true")).out
    name = next(
        line.split()[2] for line in plan.splitlines() if "pointseg-model:" in line and line.startswith("create")
    )
    azure.containers.scorers[name] = scores(azure, bundle)
    succeed(deploy(here, *words))
    assert served(azure) == f"example.azurecr.io/{name}"
    assert "Nothing to do" in succeed(deploy(here, *words)).out
    said = [json.loads(line)[:2] for line in (tools / "words").read_text().splitlines()]
    assert said.count(["acr", "build"]) == 3  # the one that failed, code and model
    assert said.count(["acr", "import"]) == 1
    (group,) = groups(azure)
    images = {one["name"]: one["properties"]["image"] for one in group["properties"]["containers"]}
    assert "example.azurecr.io/library/caddy:2.10-alpine" in images.values()  # not pulled from a public registry


@pytest.mark.slow
@pytest.mark.inference_server
def test_azures_inference_server_passes_the_test(
    azure: Any, here: Path, bundle: Path, fresh: None, tmp_path: Path
) -> None:
    from stand_in.messages import Answer

    sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))
    from inference_server import inference_server

    (tmp_path / "server").mkdir()
    with inference_server(bundle, tmp_path / "server", POINTSEG_API_KEY=KEY, POINTSEG_REQUIRE_KEY="true") as server:

        def forward(request: Any) -> Any:
            query = "&".join(f"{key}={value}" for key, value in request.query.items())
            kept = ("content-type", "content-encoding", "accept", "x-request-id", "authorization")
            headers = {name: request.headers[name] for name in kept if name in request.headers}
            url = f"{server.url}{request.path}" + (f"?{query}" if query else "")
            call = urllib.request.Request(url, request.raw or None, headers, method=request.method)
            try:
                with urllib.request.urlopen(call, timeout=60) as reply:
                    return Answer(reply.status, reply.read(), {"Content-Type": reply.headers["Content-Type"]})
            except urllib.error.HTTPError as error:
                return Answer(error.code, error.read(), {"Content-Type": error.headers["Content-Type"]})

        azure.containers.scorers["scoring:1"] = forward
        done = succeed(deploy(here, f"checkpoint={bundle}", f"aci.image={IMAGE}:1"))
    assert "Tested with a scan: 112,692 points" in done.out
