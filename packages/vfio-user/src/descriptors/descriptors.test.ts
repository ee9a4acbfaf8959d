/** Processes that serve by descriptors, and end. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withDescriptors } from './descriptors.test.helper.js';

const MODULE = new URL('./descriptors.js', import.meta.url).href;

/** What a process does that listens at `socket`: it ends itself, or has nothing more to do. */
function run(socket: string, then: string, environment: Readonly<Record<string, string>> = {}): number | null {
  const program = `
    import { readFile } from 'node:fs/promises';
    import { Descriptors } from '${MODULE}';
    const listening = await new Descriptors().listen(${JSON.stringify(socket)}, () => undefined);
    setTimeout(async () => { ${then} }, 50);`;
  const env = { ...process.env, ...environment };
  const options = { stdio: 'inherit', env, timeout: 240_000, killSignal: 'SIGKILL' } as const;
  return spawnSync(process.execPath, ['--input-type=module', '-e', program], options).status;
}

withDescriptors('a process that waits for clients can be ended, and ends when it waits no more', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'remora-descriptors-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const socket = join(folder, 'socket');
  t.is(run(socket, 'process.exit(3)'), 3);
  t.true(existsSync(socket), 'nobody has removed it');
  t.is(run(socket, 'listening[Symbol.dispose]()'), 0);
  t.false(existsSync(socket));
  return Promise.resolve();
});

withDescriptors('waiting leaves the threads that Node has for others, if there is but one', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'remora-descriptors-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const then = `await readFile('/dev/null'); process.exit(4)`;
  t.is(run(join(folder, 'socket'), then, { UV_THREADPOOL_SIZE: '1' }), 4);
  return Promise.resolve();
});

withDescriptors('nobody is connected where nobody listens', (t, system) => {
  const failure = t.throws(() => system.connect('/nonexistent/socket'), { name: 'SystemCallError' });
  t.is(failure.message, 'connect failed with errno 2');
  return Promise.resolve();
});
