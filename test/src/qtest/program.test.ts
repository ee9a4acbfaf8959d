import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { MORTAL, runs, runSync } from '../rig/processes.js';
import { PROGRAM, ProgramUnderTest } from './program-under-test.js';
import { isListed, replay, transcripts } from './transcripts.js';

/** One after the other: each is a process of its own. */
const played = ['intel-iommu-test.1', 'iommu-intel-test.1', 'iommu-intel-test.6', 'q35-test.2'];

for (const transcript of transcripts.filter(({ name }) => played.includes(name))) {
  test.serial(`${transcript.name} on the program itself, which ends by SIGTERM with status 0`, async t => {
    await using program = await ProgramUnderTest.start(transcript.args);
    const differences = await replay(transcript, program);
    t.deepEqual(
      differences.filter(each => !isListed(each)),
      [],
    );
    t.is(await program.stop(), 0);
  });
}

test.serial('query-machines has q35', async t => {
  await using program = await ProgramUnderTest.start(['-machine', 'none']);
  const machines = (await program.command('query-machines')) as { name: string; alias?: string }[];
  t.true(machines.some(({ name, alias }) => name === 'q35' || alias === 'q35'));
  t.is(await program.stop(), 0);
});

test.serial('it ends when the test program has gone', async t => {
  await using program = await ProgramUnderTest.start(['-M', 'q35']);
  program.qtest.send('readb 0x');
  program.qtest.close();
  t.is(await program.exited, 0);
});

test.serial('it ends when its parent has gone, if it was told to', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'remora-parent-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  // Its socket is there once it has seen who its parent is.
  const socket = join(folder, 'qmp');
  const monitor = ['-qmp', `unix:${socket},server=on,wait=off`];
  const args = JSON.stringify([PROGRAM, '-M', 'q35', '-run-with', 'exit-with-parent=on', '-nodefaults', ...monitor]);
  const parent = `
    const child = require('node:child_process').spawn(process.execPath, ${args}, { stdio: 'ignore' });
    const seen = () => require('node:fs').existsSync(${JSON.stringify(socket)});
    setInterval(() => { if (seen()) { console.log(child.pid); process.exit(0); } }, 20);`;
  const shell = spawn(process.execPath, ['-e', parent], { ...MORTAL, stdio: ['ignore', 'pipe', 'inherit'] });
  const pid = await new Promise<number>(resolve =>
    shell.stdout.on('data', (chunk: Buffer) => resolve(Number(chunk.toString()))),
  );
  let alive = true;
  for (let round = 0; round < 4000 && alive; round++) {
    await new Promise(resolve => setTimeout(resolve, 50));
    alive = runs(pid);
  }
  if (alive) process.kill(pid, 'SIGKILL');
  t.false(alive);
});

test.serial('mistakes on the command line: one line on standard error, status 1', t => {
  const mistakes: readonly (readonly [string[], string])[] = [
    [['-foo'], '-foo: invalid option'],
    [['-device', 'nonsense'], "-device nonsense: 'nonsense' is not a valid device model name"],
    [['-qtest', 'unix:/nonexistent/socket'], '/nonexistent/socket: connect ENOENT /nonexistent/socket'],
  ];
  for (const [args, message] of mistakes) {
    const { status, stdout, stderr } = runSync(process.execPath, [PROGRAM, ...args]);
    t.deepEqual({ status, stdout, stderr }, { status: 1, stdout: '', stderr: `remora-system-x86_64: ${message}\n` });
  }
});

test.serial('on standard input and output', t => {
  const args = [PROGRAM, '-M', 'q35', '-net', 'none', '-device', 'edu', '-qtest', 'stdio', '-qtest-log', 'none'];
  const input = 'endianness\noutl 0xcf8 0x80001000\ninl 0xcfc\nreadb';
  const { status, stdout, stderr } = runSync(process.execPath, args, input);
  t.deepEqual({ status, stderr }, { status: 0, stderr: '' });
  t.is(stdout, 'OK little\nOK\nOK 0x11e81234\n');
});
