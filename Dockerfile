# The image holds Python, nft, the libraries of both, uproxy and cni_bridge: no shell, no package manager, no compiler.
#
#   docker build -t uproxy .                                  # or podman build --format docker, which keeps the HEALTHCHECK
#   scripts/build-image.sh uproxy                             # the same, with this machine's pip settings
#   scripts/base-image.sh base.tar && scripts/build-image.sh uproxy base.tar     # where no image registry is at hand
#
# BASE is only built with: a Debian (tried: bookworm, trixie) with working apt sources. Nothing of it reaches the result.
# Two optional secrets, for a package index of one's own: `pip` (a pip.conf) and `ca` (its certificates, PEM).
ARG BASE=docker.io/library/debian:bookworm-slim

# Byte code is never checked against its source: nothing is written at run time, and builds do not depend on file times.
ARG COMPILE="python3 -m compileall -f -q --invalidation-mode unchecked-hash"

# Debian's python3 and nftables with all that they depend on, unpacked into a folder.
FROM ${BASE} AS system
ARG COMPILE
COPY deploy/image/unpack.sh /
RUN sh /unpack.sh /system base-files ca-certificates libpython3-stdlib nftables python3-minimal \
    && chroot /system ${COMPILE} "$(chroot /system python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

# What pip installs. The tools for that stay behind, in /build.
FROM ${BASE} AS packages
ARG COMPILE
ARG PIP="/build/bin/pip --disable-pip-version-check --no-cache-dir --quiet"
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    binutils ca-certificates python3-venv
COPY requirements.txt requirements-dev.txt /build/
# Locked versions with hashes, as ready-made wheels: nothing is compiled. setuptools, which packs uproxy, from the other lock.
# Half of all bytes are the generated models of kubernetes_asyncio, which are never loaded (uproxy/sources/kubernetes/library.py);
# of the rest, a sixth are types and debugging symbols.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    python3 -m venv /build && python3 -m venv --without-pip /opt/uproxy \
    && sed -n '/^setuptools==/,/[^\\]$/p' /build/requirements-dev.txt > /build/setuptools.txt \
    && ${PIP} install --require-hashes --only-binary :all: --requirement /build/setuptools.txt \
    && ${PIP} --python /opt/uproxy/bin/python install --no-compile --require-hashes --only-binary :all: --requirement /build/requirements.txt \
    && rm -r /opt/uproxy/lib/python3*/site-packages/kubernetes_asyncio/client/api \
        /opt/uproxy/lib/python3*/site-packages/kubernetes_asyncio/client/models \
    && find /opt/uproxy -name '*.pyi' -delete \
    && find /opt/uproxy -name '*.so' -exec strip --strip-unneeded {} + \
    && ${COMPILE} -j 0 /opt/uproxy/lib
COPY pyproject.toml README.md LICENSE /source/
COPY cni_bridge /source/cni_bridge
COPY uproxy /source/uproxy
RUN ${PIP} wheel --no-index --no-deps --no-build-isolation --wheel-dir /build/wheel /source \
    && ${PIP} --python /opt/uproxy/bin/python install --no-compile --no-index --no-deps /build/wheel/uproxy-*.whl \
    && ${COMPILE} /opt/uproxy/lib/python3*/site-packages/cni_bridge /opt/uproxy/lib/python3*/site-packages/uproxy
COPY deploy/image/livez.py /opt/uproxy/libexec/

FROM scratch
COPY --from=system /system /
COPY --from=packages /opt/uproxy /opt/uproxy
COPY deploy/nftables /usr/share/uproxy
ENV PATH=/opt/uproxy/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# Asks the address that UPROXY_HEALTHZ_BIND_ADDRESS names. The grace is for the first list from a far API server.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/opt/uproxy/bin/python", "-I", "-S", "/opt/uproxy/libexec/livez.py"]
ENTRYPOINT ["uproxy"]
CMD ["run"]
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="uproxy" \
      org.opencontainers.image.description="A service proxy for Kubernetes nodes without kernel load balancing" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
