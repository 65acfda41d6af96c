"""A container group with the scoring image: its settings, and its definition for Container Instances."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pointseg.azure.containers.tls import CERTIFICATES, Certificate, caddy_command, caddyfile
from pointseg.azure.names import IDENTITY, SUBNET, check_image_name, check_location, check_matches, check_whole
from pointseg.azure.tags import MADE_BY_TAG
from pointseg.core.errors import ConfigError
from pointseg.core.optional_packages import needed
from pointseg.core.redaction import is_secret_name

__all__ = [
    "GROUP_CONTENT_TAG",
    "PORT",
    "SCORING",
    "ContainerSettings",
    "GroupSecrets",
    "WantedGroup",
    "group_definition",
    "registry_credentials",
]

GROUP_CONTENT_TAG = "content"  # the tag with the digest of what a group was made from, once it has passed its test
PORT = 5001
SCORING, PROXY = "scoring", "tls"
PROXY_CORES, PROXY_MEMORY = 0.25, 0.5
DOMAIN = r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,}"
ROUNDS = 200_000


@dataclass(frozen=True)
class ContainerSettings:
    """How a group is made, by the keys of `aci`; `AciConfig` declares what each means.

    Raises:
        ConfigError: naming the key.
    """

    location: str
    dns: str
    cpu: float
    memory: float
    tls: str
    domain: str | None
    tls_image: str
    subnet: str | None
    public_http: bool
    registry_identity: str | None
    environment: Mapping[str, str]
    liveness: Mapping[str, int]
    readiness: Mapping[str, int]

    def __post_init__(self) -> None:
        check_location("aci.location", self.location)
        label = r"[a-z][a-z0-9-]{1,61}[a-z0-9]"
        check_matches("aci.dns", self.dns, label, "DNS label", "Use 3 to 63 lower-case letters, digits and -.")
        for key, value, most in (("cpu", self.cpu, 4), ("memory", self.memory, 16)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.1 <= value <= most:
                raise ConfigError(f"{value!r} cannot be used", where=f"aci.{key}", remedy=f"Give 0.1 to {most}.")
        if self.subnet is not None:
            check_matches("aci.subnet", self.subnet, SUBNET, "subnet id", "/subscriptions/.../subnets/NAME.")
            if self.tls != "none":
                text = "a group in a subnet has no name that a certificate could be issued for"
                raise ConfigError(text, where="aci.tls", remedy="Set aci.tls=none; put a gateway before it for TLS.")
        elif self.tls == "none" and not self.public_http:
            raise ConfigError(
                "the key would be sent over the internet unencrypted",
                where="aci.tls=none",
                remedy="Set aci.tls=caddy, a private aci.subnet, or aci.public_http=true if that is intended.",
            )
        if self.domain is not None:
            check_matches("aci.domain", self.domain, DOMAIN, "host name", "Such as scoring.example.com.")
        check_image_name("aci.tls_image", self.tls_image)
        if self.registry_identity is not None:
            remedy = "/subscriptions/.../userAssignedIdentities/NAME."
            check_matches("aci.registry_identity", self.registry_identity, IDENTITY, "identity id", remedy)
        self._check_environment()
        for name in ("liveness", "readiness"):
            for key, value in getattr(self, name).items():
                check_whole(f"aci.{name}.{key}", value, 0 if key == "initial_delay" else 1, 3600)

    def _check_environment(self) -> None:
        for name, value in self.environment.items():
            where = f"aci.environment.{name}"
            check_matches(where, name, r"[A-Za-z_][A-Za-z0-9_]*", "variable name", "Use letters, digits and _.")
            if is_secret_name(name) or name in ("POINTSEG_REQUIRE_KEY", "AZUREML_MODEL_DIR"):
                remedy = "The key is taken from POINTSEG_KEY; other secrets do not belong in the container."
                raise ConfigError("this variable cannot be set here", where=where, remedy=remedy)
            if not isinstance(value, str | int | float):
                raise ConfigError(f"{value!r} is not text", where=where)

    @property
    def public(self) -> bool:
        return self.subnet is None

    @property
    def host(self) -> str:
        """The name by which callers reach it; the address of a private group is known only later."""
        return self.domain or f"{self.dns}.{self.location}.azurecontainer.io"

    @property
    def ports(self) -> tuple[int, ...]:
        """Those open to callers: with TLS, not that of the scoring server."""
        return (443, 80) if self.tls == "caddy" else (PORT,)  # 80: to get a certificate, and to redirect to 443


@dataclass(frozen=True, repr=False)
class GroupSecrets:
    """What Azure is sent and never gives back.

    Attributes:
        key: that callers give.
        certificate: of your own.
        registry: user name and password for the registry.
    """

    key: str
    certificate: Certificate | None = None
    registry: tuple[str, str] | None = None

    def digest(self, salt: str) -> str:
        """A hash by which a changed secret is noticed; slow, so that guessing is hopeless."""
        text = json.dumps([self.key, asdict(self.certificate) if self.certificate else None, self.registry])
        return hashlib.pbkdf2_hmac("sha256", text.encode(), salt.encode(), ROUNDS).hex()


@dataclass(frozen=True)
class WantedGroup:
    """One group.

    Attributes:
        name: in the resource group.
        image: with the model in it.
    """

    name: str
    image: str
    settings: ContainerSettings
    secrets: GroupSecrets

    @property
    def content(self) -> str:
        """A digest of everything: the same call again finds it."""
        facts = [self.image, asdict(self.settings), self.secrets.digest(self.name)]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=dict).encode()).hexdigest()[:20]

    def url(self, address: Any) -> str:
        """The URL for callers, without /score; `address` is the ipAddress that Azure gave it."""
        if self.settings.tls == "caddy":
            return f"https://{self.settings.host}"
        host = self.settings.host if self.settings.public else address.ip
        return f"http://{host}:{PORT}"


def group_definition(wanted: WantedGroup) -> Any:
    """The group as Container Instances expects it."""
    models = needed("azure.mgmt.containerinstance.models", "azure", "Container Instances")
    settings, secrets = wanted.settings, wanted.secrets
    containers = [_scoring(models, wanted)]
    volumes = []
    if settings.tls == "caddy":
        containers.append(_proxy(models, settings, own=secrets.certificate is not None))
        if secrets.certificate is not None:
            files = {"chain.pem": secrets.certificate.chain, "key.pem": secrets.certificate.key}
            encoded = {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}
            volumes.append(models.Volume(name="certificates", secret=encoded))
    address = models.IpAddress(
        type="Public" if settings.public else "Private",
        ports=[models.Port(port=port, protocol="TCP") for port in settings.ports],
        dns_name_label=settings.dns if settings.public else None,
    )
    identity = None
    if settings.registry_identity:
        identity = models.ContainerGroupIdentity(
            type="UserAssigned",
            user_assigned_identities={settings.registry_identity: models.UserAssignedIdentities()},
        )
    return models.ContainerGroup(
        location=settings.location,
        tags=dict(MADE_BY_TAG),
        os_type="Linux",
        restart_policy="Always",
        containers=containers,
        ip_address=address,
        volumes=volumes or None,
        identity=identity,
        image_registry_credentials=registry_credentials(wanted),
        subnet_ids=[models.ContainerGroupSubnetId(id=settings.subnet)] if settings.subnet else None,
    )


def registry_credentials(wanted: WantedGroup) -> list[Any] | None:
    """The credentials that pull the image; None where everybody may."""
    models = needed("azure.mgmt.containerinstance.models", "azure", "Container Instances")
    server = wanted.image.partition("/")[0]
    if wanted.settings.registry_identity:
        return [models.ImageRegistryCredential(server=server, identity=wanted.settings.registry_identity)]
    if wanted.secrets.registry:
        user, password = wanted.secrets.registry
        return [models.ImageRegistryCredential(server=server, username=user, password=password)]
    return None


def _scoring(models: Any, wanted: WantedGroup) -> Any:
    settings = wanted.settings
    variables = {"POINTSEG_REQUIRE_KEY": "true", **{key: str(value) for key, value in settings.environment.items()}}
    return models.Container(
        name=SCORING,
        image=wanted.image,
        resources=_resources(models, settings.cpu, settings.memory),
        ports=[models.ContainerPort(port=PORT, protocol="TCP")],
        environment_variables=[
            *(models.EnvironmentVariable(name=name, value=value) for name, value in sorted(variables.items())),
            models.EnvironmentVariable(name="POINTSEG_API_KEY", secure_value=wanted.secrets.key),
        ],
        liveness_probe=_probe(models, settings.liveness),
        readiness_probe=_probe(models, settings.readiness),
    )


def _proxy(models: Any, settings: ContainerSettings, *, own: bool) -> Any:
    mounts = [models.VolumeMount(name="certificates", mount_path=CERTIFICATES, read_only=True)] if own else None
    return models.Container(
        name=PROXY,
        image=settings.tls_image,
        command=caddy_command(),
        resources=_resources(models, PROXY_CORES, PROXY_MEMORY),
        ports=[models.ContainerPort(port=port, protocol="TCP") for port in settings.ports],
        environment_variables=[models.EnvironmentVariable(name="CADDYFILE", value=caddyfile(settings.host, own))],
        volume_mounts=mounts,
    )


def _resources(models: Any, cpu: float, memory: float) -> Any:
    return models.ResourceRequirements(requests=models.ResourceRequests(cpu=float(cpu), memory_in_gb=float(memory)))


def _probe(models: Any, times: Mapping[str, int]) -> Any:
    """A probe of /, where the inference server answers Healthy without a key."""
    return models.ContainerProbe(
        http_get=models.ContainerHttpGet(port=PORT, path="/", scheme="http"),
        initial_delay_seconds=times.get("initial_delay"),
        period_seconds=times.get("period"),
        timeout_seconds=times.get("timeout"),
        failure_threshold=times.get("failures"),
    )
