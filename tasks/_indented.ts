/** WGSL with two spaces a brace or parenthesis that is open where a line begins, and no two empty lines in a row. */
export function indented(text: string): string {
  let depth = 0;
  const lines = text.split("\n").map((line) => {
    const code = line.replace(/\/\/.*/, "").trim();
    const closing = /^[})]*/.exec(code)![0].length;
    const indent = "  ".repeat(depth - closing);
    depth += code.replaceAll(/[^{(]/g, "").length - code.replaceAll(/[^})]/g, "").length;
    return line.trim() === "" ? "" : indent + line.trim();
  });
  return lines.join("\n").replaceAll(/\n{3,}/g, "\n\n").replace(/^\n+/, "");
}
