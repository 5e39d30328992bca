/** What is used of picomatch, which has no types of its own. */
declare function picomatch(pattern: string): (name: string) => boolean;
export default picomatch;
