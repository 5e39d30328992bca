import type { HubOptions } from "./options.ts";

/** `fetch` with the token, which goes to the endpoint only: a redirect to another host drops it. */
export function fetcher({ token }: HubOptions, signal: AbortSignal | undefined): typeof fetch {
  return (url, init) => {
    const headers = new Headers(init?.headers);
    if (token !== null) headers.set("authorization", `Bearer ${token}`);
    return fetch(url, { ...init, headers, ...(signal === undefined ? {} : { signal }) });
  };
}
