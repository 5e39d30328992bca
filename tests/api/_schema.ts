/** Walks through JSON schemas of /openapi.json. */
import { createApp } from "../../routes/app.ts";
import type { Service } from "../../routes/service_context.ts";

// deno-lint-ignore no-explicit-any
export type Schema = any;

/** The description of the service; no part of it runs. */
export async function description(): Promise<Schema> {
  const service = {
    config: {
      root: "/nowhere/root",
      state: "/nowhere/state",
      cache: "/nowhere/cache",
      host: "127.0.0.1",
      allowedHosts: [],
      tokens: [],
      maxBodyBytes: 1,
    },
    engine: Promise.resolve(null),
    stopping: new AbortController().signal,
  };
  const app = createApp(service as unknown as Service);
  return await (await app.request("/openapi.json")).json();
}

/** A schema inside another, and how one gets there. */
export interface Place {
  readonly path: readonly (string | number)[];
  readonly schema: Schema;
}

/** Each schema that a value is held to, from the outermost on. */
export function* places(root: Schema, schema: Schema, path: Place["path"] = []): Generator<Place> {
  if (schema.$ref !== undefined) {
    const name = schema.$ref.split("/").at(-1);
    return yield* places(root, root.components.schemas[name], path);
  }
  yield { path, schema };
  for (const kind of ["anyOf", "oneOf", "allOf"]) {
    for (const member of schema[kind] ?? []) {
      if (member.type ?? member.$ref) yield* places(root, member, path);
    }
  }
  for (const [name, inner] of Object.entries(schema.properties ?? {})) {
    yield* places(root, inner, [...path, name]);
  }
  if (schema.items) yield* places(root, schema.items, [...path, 0]);
  const more = schema.additionalProperties;
  if (typeof more === "object" && Object.keys(more).length > 0) yield* places(root, more, [...path, "k"]);
}

/** The bodies that routes take, by route. */
export function bodies(root: Schema): [route: string, schema: Schema][] {
  return Object.entries<Schema>(root.paths).flatMap(([path, methods]) =>
    Object.entries<Schema>(methods).flatMap(([method, { requestBody }]): [string, Schema][] =>
      requestBody ? [[`${method} ${path}`, requestBody.content["application/json"].schema]] : []
    )
  );
}

/** Path, query and headers of routes. */
export function parameters(root: Schema): [name: string, schema: Schema][] {
  return Object.entries<Schema>(root.paths).flatMap(([path, methods]) =>
    Object.entries<Schema>(methods).flatMap(([method, { parameters = [] }]) =>
      parameters.map(({ name, schema }: Schema) => [`${method} ${path} ${name}`, schema])
    )
  );
}
