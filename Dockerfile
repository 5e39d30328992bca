# The service with what NVIDIA's Vulkan driver needs inside a container. The driver itself comes from the host:
#   docker run --gpus all -e SIMPO_TOKEN=… -p 8080:8080 -v ./models:/app/models -v simpo-state:/state IMAGE
# HOST=0.0.0.0 is refused without SIMPO_TOKEN or SIMPO_TOKEN_FILE, unless SIMPO_INSECURE=1 (docs/access.md).
# Other tasks by name: docker run --gpus all IMAGE doctor
# Without a GPU: docker build --build-arg EXTRA_PACKAGES=mesa-vulkan-drivers, and run with -e SIMPO_DEVICE=software.
FROM denoland/deno:debian-2.9.6

ARG EXTRA_PACKAGES=""
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    libvulkan1 libegl1 libxext6 ${EXTRA_PACKAGES} \
  && rm -rf /var/lib/apt/lists/*

# A folder of our own for the packages: some hosts mount over the image's.
ENV DENO_DIR=/opt/deno \
  DENO_NO_UPDATE_CHECK=1 \
  NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics \
  XDG_RUNTIME_DIR=/tmp \
  HOST=0.0.0.0 \
  PORT=8080 \
  SIMPO_STATE=/state
RUN mkdir /app /state "$DENO_DIR" && chown deno:deno /app /state "$DENO_DIR"

USER deno
WORKDIR /app
COPY --chown=deno:deno deno.json deno.lock ./
RUN deno install --frozen
COPY --chown=deno:deno . .
# Types are not checked here, only every module transpiled and kept; the workers are not reached from main.ts by imports.
RUN deno cache --frozen launcher.ts main.ts src/engine/worker.ts src/engine/merge_worker.ts src/json_worker.ts \
  src/preference/encode_worker.ts src/text/worker.ts

VOLUME /state
EXPOSE 8080
# The service stops by itself within 10 s of SIGTERM; tini, the task runner and the launcher hand the signal on.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["deno", "eval", "--no-config", "Deno.exit((await fetch(`http://127.0.0.1:${Deno.env.get('PORT')}/livez`)).ok ? 0 : 1)"]
ENTRYPOINT ["/tini", "--", "deno", "task", "--quiet"]
CMD ["serve"]
