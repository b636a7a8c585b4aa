"""A page to sign in on, for browsers: it asks the API for everything, and needs nothing else."""

import secrets

from aiohttp import web

_NONCE_BYTES = 16


async def sign_in_page(_request: web.Request) -> web.Response:
    """Sign in and out with a password; says how else one signs in here."""
    nonce = secrets.token_urlsafe(_NONCE_BYTES)
    return web.Response(
        text=_PAGE.replace("NONCE", nonce),
        content_type="text/html",
        headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
            f"script-src 'nonce-{nonce}'; connect-src 'self'; form-action 'none'; "
            "base-uri 'none'; frame-ancestors 'none'",
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )


# The form is sent by the script alone: a browser without one sends nothing anywhere. Texts of the
# API are put in as text, never as HTML.
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Sign in to Atelier</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 22rem; margin: 12vh auto; padding: 0 1rem;
         color-scheme: light dark }
  form, #inside { display: grid; gap: .8rem }
  label { display: grid; gap: .2rem }
  input, button { font: inherit; padding: .5rem .6rem }
  [hidden] { display: none }
  #said { min-height: 1.5em }
</style>
<h1>Atelier</h1>
<form id="form" hidden>
  <label>E-mail <input id="email" type="email" autocomplete="username" required autofocus></label>
  <label>Password
    <input id="password" type="password" autocomplete="current-password" required></label>
  <button>Sign in</button>
</form>
<div id="inside" hidden>
  <p>You are signed in as <strong id="who"></strong>. What you queue in the editor is yours.</p>
  <button id="out" type="button">Sign out</button>
</div>
<p id="said" role="status"></p>
<script nonce="NONCE">
  const api = location.pathname.replace(/\\/sign-in$/, "");
  const at = id => document.getElementById(id);
  const say = text => { at("said").textContent = text; };

  async function ask(method, path, body) {
    const headers = { "X-Atelier": "1" };
    if (body) headers["Content-Type"] = "application/json";
    const answer = await fetch(api + path, { method, headers, body: body && JSON.stringify(body) });
    return [answer.status, answer.status === 204 ? null : await answer.json()];
  }

  async function show() {
    const [status, answer] = await ask("GET", "/auth/me");
    const ways = status === 200 ? answer.ways : answer.error.details.ways ?? ["local"];
    at("inside").hidden = status !== 200;
    at("form").hidden = status === 200 || !ways.some(way => way === "local" || way === "supabase");
    if (status === 200) at("who").textContent = answer.account.email ?? answer.account.id;
    else if (at("form").hidden) say(answer.error.message);
  }

  const trying = work => work().catch(() => say("The studio does not answer."));
  at("form").addEventListener("submit", event => {
    event.preventDefault();
    trying(async () => {
      const order = { email: at("email").value, password: at("password").value };
      const [status, answer] = await ask("POST", "/auth/login", order);
      at("password").value = "";
      say(status === 200 ? "" : answer.error.message);
      await show();
    });
  });
  at("out").addEventListener("click", () => trying(async () => {
    await ask("POST", "/auth/logout");
    await show();
  }));
  trying(show);
</script>
</html>
"""
