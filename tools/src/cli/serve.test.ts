import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ConfigError } from '@remora/core';
import { qemuCommand } from '../serve/index.js';
import { serve } from './serve.js';
import { UsageError } from './usage-error.js';

const at = mkdtempSync(join(tmpdir(), 'remora-serve-'));
const socket = join(at, 's');
test.after.always(() => rmSync(at, { recursive: true }));

async function mistake(t: ExecutionContext, devices: string[], sockets: string[], message: RegExp): Promise<void> {
  const nothing = { write: () => undefined };
  const options = { socket: sockets, until: Promise.resolve() };
  const failure = await t.throwsAsync(serve(devices, options, { stdout: nothing, stderr: nothing }));
  t.true(failure instanceof UsageError || failure instanceof ConfigError, String(failure));
  t.regex(failure.message, message);
  t.false(failure.message.includes('\n'), 'one line');
}

test('what cannot be served, or not there, is said in one line; nothing is left behind', async t => {
  writeFileSync(join(at, 'file'), '');
  await mistake(t, ['edu'], [], /--socket: 0 given for edu: expected one/);
  await mistake(t, ['edu', 'edu,id=b'], [socket], /--socket: 1 given for .*: expected 2, in the order/);
  await mistake(t, ['edu', 'edu,id=b'], [socket, socket], /--socket: .* is given twice/);
  await mistake(t, ['edu', 'edu,id=b'], [socket, join(at, 'file')], /file is there already, and no socket/);
  await mistake(t, ['edu'], [join(at, 'none', 's')], /socket: .*none is no folder/);
  await mistake(t, ['eud'], [socket], /devices\[0\]: "eud" is not a device.*edu/);
  await mistake(t, ['edu,dma_mask=x'], [socket], /devices\[0\]\.dma_mask: /);
  await mistake(t, ['edu,addr=3', 'edu,id=b,addr=3'], [socket, `${socket}2`], /devices\[1\]\.addr: /);
  await mistake(t, ['./none.ts'], [socket], /\.\/none\.ts: no such file/);
  await mistake(t, [join(at, 'file.js')], [socket], /file\.js: no such file/);
  t.false(existsSync(socket));
});

test('memory by message does not go with descriptors', async t => {
  const nothing = { write: () => undefined };
  const asked = (device: string, fds: boolean): Promise<void> =>
    serve(
      [device],
      { socket: [socket], memory: 'message', fds, until: Promise.resolve() },
      { stdout: nothing, stderr: nothing },
    );
  await t.throwsAsync(asked('edu', true), {
    instanceOf: UsageError,
    message: '--memory message: with --fds QEMU passes its memory: expected one of the two',
  });
  await t.throwsAsync(asked('nvme,msi=false', false), {
    instanceOf: ConfigError,
    message: /^devices\[0\]: "nvme.*" has MSI-X, which takes event descriptors: expected MSI/,
  });
  await t.notThrowsAsync(asked('edu', false));
  t.false(existsSync(socket));
});

test('a file that brings no device', async t => {
  const file = join(at, 'nothing.mjs');
  writeFileSync(file, 'export default 7;');
  await mistake(t, [file], [socket], /devices\[0\]: is not a plug-in/);
});

test("QEMU's command line is one for a shell, whatever the names are", t => {
  const command = qemuCommand([{ socket: "/tmp/it's", devfn: 0x1f }], '/tmp/a, b');
  t.deepEqual(command, [
    'qemu-system-x86_64',
    '-machine q35,memory-backend=ram -m 512M',
    "-object 'memory-backend-file,id=ram,size=512M,share=on,mem-path=/tmp/a,, b'",
    String.raw`-device '{"driver":"vfio-user-pci","addr":"3.7","socket":{"type":"unix","path":"/tmp/it'\''s"}}'`,
  ]);
  t.deepEqual(qemuCommand([], false), ['qemu-system-x86_64', '-machine q35 -m 512M']);
});
