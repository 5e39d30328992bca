/** What is used of picomatch, which has no types of its own. */
declare function picomatch(
  pattern: string,
  options: { readonly noextglob: boolean; readonly nonegate: boolean },
): (name: string) => boolean;
export default picomatch;
