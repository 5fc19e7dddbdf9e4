"""How the server was started: `streamlit run app/main.py -- FLAGS`, and whom it may let in."""

import sys
from collections.abc import Collection, Sequence
from functools import cache

import psutil
import streamlit as st

ALLOW_CODE = "--allow-code"
HAVE_AUTHENTICATION = "--i-have-authentication"
_OWN_MACHINE = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


def allows_code(arguments: Sequence[str] | None = None) -> bool:
    """May a page name Python code to be imported? Only where whoever started the server says so."""
    return ALLOW_CODE in (sys.argv[1:] if arguments is None else arguments)


def refusal(addresses: Collection[str], arguments: Sequence[str], has_login: bool) -> str:
    """Why nothing is shown at all; "" when all is well.

    `addresses`: where the server listens. The app runs jobs on the machine for whoever reaches it,
    so beyond this machine somebody has to have made sure who that is.
    """
    beyond = sorted(set(addresses) - set(_OWN_MACHINE))
    if not beyond:
        return ""
    every = {"0.0.0.0", "::"} & set(beyond)
    where = "on every network of this machine" if every else f"at {', '.join(beyond)}"
    if allows_code(arguments):
        return (
            f"The server listens {where} and was started with `{ALLOW_CODE}`: that is for your own "
            "machine alone. Take one of the two away."
        )
    if has_login or HAVE_AUTHENTICATION in arguments:
        return ""
    return (
        f"The server listens {where}, and nobody is asked who they are. Start it with "
        "`--server.address localhost`, or set up a login (`[auth]` in "
        "`.streamlit/secrets.toml`, see st.login), or, when a proxy in front of it asks, say so: "
        f"`streamlit run app/main.py -- {HAVE_AUTHENTICATION}`."
    )


def check_entrance() -> None:
    """Show why nothing is shown, or ask for the login that is set up; stop the page then."""
    has_login = _has_login()
    if why := refusal(listens_at(), sys.argv[1:], has_login):
        st.error(why)
        st.stop()
    if has_login and not st.user.is_logged_in:
        st.title("Sparsity Explorer")
        st.button("Log in", on_click=st.login, type="primary")
        st.stop()


@cache
def listens_at() -> frozenset[str]:
    """The addresses at which this process takes connections to the app; none in a test."""
    port = st.get_option("server.port")
    sockets = psutil.Process().net_connections(kind="tcp")
    return frozenset(
        socket.laddr.ip
        for socket in sockets
        if socket.status == psutil.CONN_LISTEN and socket.laddr.port == port
    )


def _has_login() -> bool:
    try:
        return "auth" in st.secrets
    except FileNotFoundError:
        return False
