import { relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** `file` from the root of the repository, with forward slashes. Paths that are relative already stay as they are. */
export function pathInRepository(file: string): string {
  const path = file.startsWith(ROOT) ? relative(ROOT, file) : file;
  return path.split(sep).join('/');
}
