/**
 * Names of the members that a header gives a structure, from preprocessed C. Offsets are the compiler's business; this finds a
 * member that nobody thought of asking about.
 */

/** Members that stand for holes. */
const HOLE = /^_*(pad|padding|reserved|rsvd)\d*_*$/;

/**
 * The members of `struct name` in `source` (preprocessed C), those of anonymous structures and unions included, holes and flexible
 * array members left out. Undefined if `source` does not define the structure.
 */
export function structMembers(source: string, name: string): string[] | undefined {
  const start = new RegExp(`\\bstruct\\s+${name}\\s*\\{`).exec(source);
  if (start === null) return undefined;
  return membersOf(body(source, start.index + start[0].length)).filter(member => !HOLE.test(member));
}

/** From `at`, just behind an opening brace, to the brace that closes it. */
function body(source: string, at: number): string {
  for (let end = at, depth = 1; end < source.length; end++) {
    if (source[end] === '{') depth++;
    else if (source[end] === '}' && --depth === 0) return source.slice(at, end);
  }
  throw new Error('a structure does not end');
}

function membersOf(text: string): string[] {
  return declarations(text.replace(/__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)/g, ' ')).flatMap(declaration => {
    const open = declaration.indexOf('{');
    if (open < 0) return namesIn(declaration.replace(/^\s*(const|struct|union|enum)\b/, ' '));
    const close = declaration.lastIndexOf('}');
    const name = declaration.slice(close + 1).trim();
    return name === '' ? membersOf(declaration.slice(open + 1, close)) : namesIn(`_ ${name}`);
  });
}

/** The declarations of a body: split at semicolons that are not within braces. */
function declarations(text: string): string[] {
  const found: string[] = [];
  for (let at = 0, start = 0, depth = 0; at < text.length; at++) {
    if (text[at] === '{') depth++;
    else if (text[at] === '}') depth--;
    else if (text[at] === ';' && depth === 0) {
      found.push(text.slice(start, at));
      start = at + 1;
    }
  }
  return found.filter(declaration => declaration.trim() !== '');
}

/** `__u64 *a, b[2]` declares a and b; `__u8 data[]` declares nothing that takes bytes. */
function namesIn(declaration: string): string[] {
  return declaration.split(',').flatMap(declarator => {
    if (/\[\s*\]\s*$/.test(declarator)) return [];
    const name = /([A-Za-z_]\w*)\s*((\[[^\]]*\]\s*)*|:\s*\d+\s*)$/.exec(declarator);
    return name === null ? [] : [name[1]!];
  });
}
