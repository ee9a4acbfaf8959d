/** Which modules a program has loaded by the time it says something. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { MORTAL } from '../rig/processes.js';

export const ROOT = new URL('../../../', import.meta.url);

/**
 * Starts `program`, a path in the repository, writes `input` to it and waits for its first line. Returns that, and the modules by their paths
 * in the repository, without Node's own.
 */
export async function loadedAtFirstLine(
  program: string,
  args: readonly string[],
  input: string,
): Promise<{ line: string; modules: string[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'remora-start-'));
  const file = join(folder, 'loaded');
  const node = ['--import', recordInto(file), new URL(program, ROOT).pathname, ...args];
  const child = spawn(process.execPath, node, MORTAL);
  const exited = once(child, 'exit');
  // It may have ended already.
  child.stdin.on('error', () => undefined);
  try {
    child.stdin.write(input);
    const { value: line } = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
    const urls = readFileSync(file, 'utf8').trim().split('\n');
    const modules = urls.filter(url => url.startsWith(ROOT.href)).map(url => url.slice(ROOT.href.length));
    return { line: String(line), modules };
  } finally {
    child.kill('SIGKILL');
    await exited;
    rmSync(folder, { recursive: true });
  }
}

function recordInto(file: string): string {
  const recorder = new URL('load-recorder.js', import.meta.url).href;
  const source = `import { register } from 'node:module';
register(${JSON.stringify(recorder)}, { data: ${JSON.stringify(file)} });`;
  return `data:text/javascript,${encodeURIComponent(source)}`;
}
