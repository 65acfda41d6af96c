"""A credential whose tokens read as Microsoft Entra's: the SDK decodes them and looks at their audience."""

from __future__ import annotations

import threading
import time
from typing import Any

import jwt
from azure.core.credentials import AccessToken

TENANT = "72f988bf-0000-0000-0000-000000000000"
OBJECT = "0b1e0000-0000-0000-0000-000000000001"
KEY = "a key of tests, which signs nothing that anybody trusts"


class StandInCredential:
    """Gives a token for the resource that is asked for; `scopes` lists what was asked."""

    def __init__(self, name: str = "tester") -> None:
        self.name = name
        self.scopes: list[str] = []
        self._lock = threading.Lock()

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        """A signed token of an hour; the audience is the scope without its "/.default", as Entra has it."""
        with self._lock:
            self.scopes.extend(scopes)
        expires = int(time.time()) + 3600
        claims = {
            "aud": scopes[0].removesuffix("/.default"),
            "tid": TENANT,
            "oid": OBJECT,
            "name": self.name,
            "exp": expires,
        }
        return AccessToken(jwt.encode(claims, KEY, algorithm="HS256"), expires)


def accepted(header: str | None) -> bool:
    """Whether an Authorization header carries such a token, still valid, for Azure's management or Azure ML."""
    if header is None or not header.startswith("Bearer "):
        return False
    try:
        claims = jwt.decode(header[7:], KEY, algorithms=["HS256"], options={"verify_aud": False})
    except jwt.PyJWTError:
        return False
    return claims["aud"].rstrip("/") in ("https://management.azure.com", "https://ml.azure.com")
