"""The demonstration of IPsec: two gateways whose private keys are in HSMs behind Keyway, and what happens to the tunnel when things break.

`make demo-ipsec` starts it. Two network namespaces stand for two sites, SoftHSM for their HSMs; all else is the real thing: charon, swanctl, Keyway.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from ipsec_site import PIN, SLOT, Site, cable, until, why_not
from stage import Stage, StepError

PICTURE = """\
        site moon  10.1.0.1                             site sun  10.2.0.1
   charon -- libkeyway.so                          charon -- p11-kit-client.so
        \\                 IKE and ESP                   /
         +==============================================+
        keyway daemon                                   keyway daemon
        |  a pool of two members                        |  a pool of two members
       HSM 1   HSM 2                                   HSM 1   HSM 2"""

EXTENSIONS = """\
[ike]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""

CONFIG = """\
[module]
path = "{module}"

[token.{name}]
slot = {slot}
pin = "{pin}"

[key.ike]
id = "0001"

[authority.demo]
certificate = "{ca}"

[connection.tunnel]
local_addrs = ["{address}"]
remote_addrs = ["{other_address}"]
local_id = "CN={name}"
remote_id = "CN={other}"
proposals = ["aes128-sha256-ecp256"]

[child.tunnel]
local_ts = ["{inner}/32"]
remote_ts = ["{other_inner}/32"]
esp_proposals = ["aes128-sha256-ecp256"]
"""


class Story:
    """The steps, in their order."""

    def __init__(self, stage: Stage, home: Path) -> None:
        self.stage = stage
        self.home = home
        self.sites: list[Site] = []

    @property
    def moon(self) -> Site:
        """Return the site that begins."""
        return self.sites[0]

    @property
    def sun(self) -> Site:
        """Return the site that answers."""
        return self.sites[1]

    def keys(self) -> None:
        """Make a key pair in the HSMs of each site, and start the gateways."""
        self.stage.step("Two sites, each with a key pair that was made in an HSM and never leaves it")
        for name, kind, address, p11_kit in (("moon", "rsa:2048", 1, False), ("sun", "EC:prime256v1", 2, True)):
            site = Site(self.stage, self.home, name, f"192.0.2.{address}", f"10.{address}.0.1", p11_kit=p11_kit)
            self.sites.append(site)
            site.make_hsms(kind)
            site.write_keyway()
            site.start_keyway()
            site.run("keyway", "slots", show=["Pool"])
        cable(*self.sites)
        self.stage.ok("each site's two HSMs have the same key, and Keyway shows them as one token")

    def certificates(self) -> None:
        """Have certificates signed by a CA, and put them beside the keys."""
        self.stage.step("A CA signs certificates for these keys; they go into the HSMs, beside them")
        (self.home / "ike.ext").write_text(EXTENSIONS)
        ca = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=demo CA",
            "-days",
            "30",
        ]
        self._openssl(*ca, "-keyout", "ca.key", "-out", "ca.pem")
        for site in self.sites:
            site.store(self._certificate(site))
        self.stage.ok("with key usage digitalSignature, or the peer would reject them")

    def configuration(self) -> None:
        """Render strongSwan's files and start charon with them."""
        self.stage.step("strongSwan's configuration, from a few lines of TOML")
        for site, other in ((self.moon, self.sun), (self.sun, self.moon)):
            text = CONFIG.format(
                module=site.module, name=site.name, slot=SLOT, pin=PIN, ca=self.home / "ca.pem", address=site.address,
                inner=site.inner, other=other.name, other_address=other.address, other_inner=other.inner,
            )  # fmt: skip
            (site.home / "ipsec.toml").write_text(text)
            site.run("keyway", "strongswan", "render", "ipsec.toml", "--profile", "swanctl", "-o", "rendered")
        self.stage.say("what swanctl.conf says of the key:")
        swanctl = (self.moon.home / "rendered" / "swanctl.conf").read_text()
        for line in swanctl[swanctl.index("secrets") :].partition("authorities")[0].splitlines()[:6]:
            self.stage.say(f"    {line}".replace(PIN, "********"))
        for site in self.sites:
            site.start_charon(site.home / "rendered")
            self.stage.say(f"{site.name}: charon runs, with {site.address_line.partition('=')[0]} in its environment")
            site.swanctl("--load-all", "--noprompt", "--file", "rendered/swanctl.conf", show=["loaded"])
            check = ("strongswan", "check", "--login", "--pid", str(site.charon), "ipsec.toml")
            site.run("keyway", *check, show=["good"])
        self.stage.ok("charon has found both keys")

    def tunnel(self) -> None:
        """Set up the tunnel."""
        self.stage.step("The tunnel: an RSA signature on one side, ECDSA on the other, both made in HSMs")
        self.moon.swanctl("--initiate", "--child", "tunnel", show=["authentication of", "established between"])
        self._ping()

    def restart(self) -> None:
        """Kill the gateway, start it again, and let both sides prove anew who they are."""
        self.stage.step("Kill moon's gateway, start it again, and let both sides prove anew who they are")
        self.stage.say(f"kill -9 {self.moon.kill_keyway()}    (the tunnel stays: {self._state()})")
        self.moon.start_keyway()
        self._reauthenticate()
        self.stage.ok("charon was not restarted; libkeyway.so has connected and logged in again by itself")

    def failover(self) -> None:
        """Take away an HSM of each site."""
        self.stage.step("Take away one of the two HSMs, on both sides")
        for site in self.sites:
            site.lose_hsm1()
        self._reauthenticate()
        for site in self.sites:
            site.run("keyway", "status", show=["hsm1, backend", "hsm2, backend"])
        self.stage.ok("the other HSM has signed")
        for site in self.sites:
            (site.home / "hsm1-away").rename(site.home / "hsm1")
        until(lambda: all(site.state_of_hsm1() == "up" for site in self.sites), "the first HSM serves again")
        self.stage.ok("and when the first one is back, it is used again")

    def renewal(self) -> None:
        """Renew a certificate while the tunnel is up."""
        self.stage.step("Renew moon's certificate while the tunnel carries traffic")
        self.moon.store(self._certificate(self.moon))
        ping = ["ping", "-n", "-q", "-i", "0.05", "-I", self.moon.inner, self.sun.inner]
        running = subprocess.Popen(
            ["nsenter", "--target", self.moon.pid, "--net", "--", *ping], stdout=subprocess.PIPE, text=True
        )
        try:
            apply = ("strongswan", "apply", "--rotate", "--vici", "vici", "ipsec.toml")
            self.moon.run("keyway", *apply, show=["IKE SA"])
        finally:
            running.send_signal(2)
            output = running.communicate()[0]
        self.stage.say(next(line for line in output.splitlines() if "packets transmitted" in line))
        self._ping()
        self.stage.ok("the new SA was there before the old one ended")

    def _reauthenticate(self) -> None:
        before = self._state()
        self.moon.swanctl("--rekey", "--ike", "tunnel", "--reauth")
        until(lambda: self._state() not in {before, ""}, "the tunnel is up again")
        for site in self.sites:
            line = next(each for each in reversed(site.log().splitlines()) if "(myself)" in each)
            self.stage.say(f"    {site.name}: {line.partition('] ')[2]}")
        self._ping()

    def _state(self) -> str:
        """Return the name and number of the SA that is established; empty if there is none."""
        listed = self.moon.swanctl("--list-sas", quiet=True).splitlines()
        up = any("INSTALLED" in line for line in listed)
        return next((line.partition(",")[0] for line in listed if "ESTABLISHED" in line and up), "")

    def _ping(self) -> None:
        def reaches() -> bool:
            try:
                self.moon.run(
                    "ping", "-n", "-q", "-c", "1", "-W", "1", "-I", self.moon.inner, self.sun.inner, quiet=True
                )
            except StepError:
                return False
            return True

        until(reaches, "packets go through")
        self.moon.run("ping", "-n", "-c", "3", "-i", "0.2", "-I", self.moon.inner, self.sun.inner, show=["received"])

    def _certificate(self, site: Site) -> Path:
        """Let the CA sign a certificate for the key of a site."""
        out = f"{site.name}.der"
        subject = ["-force_pubkey", str(site.public_key()), "-subj", f"/CN={site.name}", "-days", "30"]
        ca = [
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-extfile",
            "ike.ext",
            "-extensions",
            "ike",
            "-outform",
            "DER",
            "-out",
            out,
        ]
        self._openssl("x509", "-new", *subject, *ca)
        return self.home / out

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=self.home, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StepError(f"openssl {arguments[0]} ended with status {done.returncode}:\n{done.stderr}")


def main() -> int:
    """Run all steps in a scratch directory; end with 1 if one of them fails."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    stage = Stage()
    stage.title("An IPsec tunnel whose keys never leave their HSMs")
    print(PICTURE)
    if reason := why_not():
        stage.fail(reason)
        return 1
    # A short path: sockets are in it.
    with tempfile.TemporaryDirectory(prefix="kd-") as scratch:
        story = Story(stage, Path(scratch))
        try:
            for step in (
                story.keys,
                story.certificates,
                story.configuration,
                story.tunnel,
                story.restart,
                story.failover,
                story.renewal,
            ):
                step()
        except StepError as failure:
            stage.fail(str(failure))
            return 1
        finally:
            for site in story.sites:
                site.close()
    stage.title("That was an IPsec tunnel with its keys behind Keyway. Next: docs/guides/strongswan.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
