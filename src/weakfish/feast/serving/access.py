"""Who may read what: the ``auth:`` of feature_store.yaml and the registry's permissions, as `feast serve` has them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weakfish.feast.adapter import requested_views

from feast import FeatureStore, RepoConfig
from feast.errors import FeastPermissionError
from feast.permissions.action import AuthzedAction
from feast.permissions.enforcer import enforce_policy

from weakfish.errors import UserError, reason
from weakfish.feast.serving import TOKEN, say
from weakfish.feast.serving.messages import FeatureRequest, refusal

if TYPE_CHECKING:
    from feast.permissions.user import User

NO_AUTH = "no_auth"


class Authenticator:
    """Identifies users by the tokens of their requests.

    Raises
    ------
    UserError
        When Feast cannot check tokens as ``auth`` says, or `TOKEN` asks for the same header.
    """

    def __init__(self, config: RepoConfig, has_token: bool) -> None:
        from feast.permissions.auth.auth_manager import get_auth_manager
        from feast.permissions.server.utils import ServerType, init_auth_manager, str_to_auth_manager_type

        kind = config.auth_config.type
        if has_token:
            raise UserError(
                f"feature_store.yaml has auth of type {kind} and {TOKEN} is set, but a request has one Authorization "
                "header; unset the variable, or remove auth."
            )
        try:
            init_auth_manager(ServerType.REST, str_to_auth_manager_type(kind), config.auth_config)
        except Exception as error:
            raise UserError(
                f"auth of type {kind} in feature_store.yaml cannot be used ({reason(error)}); correct "
                "it, or install what it needs."
            ) from error
        self._parser = get_auth_manager().token_parser
        for part in ("enforcer", "auth"):  # of which the client is told, or the log by one line
            logging.getLogger(f"feast.permissions.{part}").setLevel(logging.CRITICAL)

    def user(self, headers: Mapping[bytes, bytes]) -> User:
        """Who sent a request with these headers; raises `HTTPException` 401 for a token that is missing or wrong."""
        scheme, _, shown = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        try:
            if scheme.lower() == "bearer" and shown.strip():
                return asyncio.run(self._parser.user_details_from_access_token(shown.strip()))
        except Exception as error:
            say(f"A token could not be accepted: {reason(error)}.")
            raise wrong_token() from error
        raise wrong_token()


def wrong_token() -> Exception:
    """The refusal of a request whose token is missing or wrong."""
    return refusal(401, "The token is missing or wrong.", {"WWW-Authenticate": "Bearer"})


def authenticator(store: FeatureStore, has_token: bool) -> Authenticator | None:
    """What checks tokens; None where feature_store.yaml has no ``auth``. Raises what `Authenticator` raises."""
    if store.config.auth_config.type != NO_AUTH:
        return Authenticator(store.config, has_token)
    permissions = store.registry.list_permissions(store.project, allow_cache=True)
    if permissions:
        say(
            f"The registry has {len(permissions)} permissions, but they are not enforced, since feature_store.yaml has "
            "no auth; add it there."
        )
    return None


def require_permission(store: FeatureStore, question: FeatureRequest, services: Mapping[str, Any], user: User) -> None:
    """Refuse a request for features that its user may not read.

    Raises
    ------
    HTTPException
        403, with what Feast says of it.
    feast.errors.FeastError, KeyError, ValueError
        When Feast knows no such feature or view.
    """
    if user.username == os.environ.get("INTRA_COMMUNICATION_BASE64"):  # another server of Feast's
        return
    resources: Sequence[Any]
    if question.feature_service:
        resources = [services[question.feature_service]] if question.feature_service in services else []
    else:
        views, on_demand = requested_views(
            store.registry, store.project, question.features, allow_cache=True, hide_dummy_entity=False
        )
        resources = [*views, *on_demand]
    permissions = store.registry.list_permissions(store.project, allow_cache=True)
    for resource in resources:
        try:
            enforce_policy(permissions, user, [resource], [AuthzedAction.READ_ONLINE])
        except FeastPermissionError as error:
            raise refusal(403, " ".join(str(error).split()).rstrip(".") + ".") from None
