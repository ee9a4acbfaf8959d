// The same calls as a VMM makes, to the Linux that the tests run on.
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Errno, MemTx } from '@remora/core';
import { linuxSyscalls, type LinuxSyscalls } from './linux-syscalls.js';

function load(): LinuxSyscalls | string {
  try {
    return linuxSyscalls();
  } catch (failure) {
    return (failure as Error).message;
  }
}
const loaded = load();

function onLinux(title: string, run: (t: ExecutionContext, linux: LinuxSyscalls) => void | Promise<void>): void {
  if (typeof loaded === 'string') test.skip(`${title} (skipped: ${loaded})`, t => t.pass());
  else test(title, t => run(t, loaded));
}

function folder(t: ExecutionContext): string {
  const made = mkdtempSync(join(tmpdir(), 'remora-linux-'));
  t.teardown(() => rmSync(made, { recursive: true }));
  return made;
}

const EISDIR = 21;
const MAPPED = /^([0-9a-f]+)-([0-9a-f]+) (....) /gm;

/** `rw-s` and the like of the mapping that begins at `address`. */
function mappedAt(address: number): string | undefined {
  const maps = readFileSync('/proc/self/maps', 'latin1');
  return [...maps.matchAll(MAPPED)].find(([, from]) => parseInt(from!, 16) === address)?.[3];
}

onLinux('what fails is a negated errno, as the kernel has it', (t, linux) => {
  t.is(linux.open('/nonexistent'), -Errno.ENOENT);
  t.is(linux.readlink('/nonexistent'), -Errno.ENOENT);
  t.is(linux.readlink('/'), -Errno.EINVAL);
  t.is(linux.readdir('/nonexistent'), -Errno.ENOENT);
  t.is(linux.open('/'), -EISDIR);
  t.is(linux.close(9999), -Errno.EBADF);
  t.is(linux.ioctl(9999, 0x3b64), -Errno.EBADF);
  t.is(linux.read(9999, new Uint8Array(8)), -Errno.EBADF);
  t.is(linux.mmap(0), -Errno.EINVAL);
  t.is(linux.mmap(4095), -Errno.EINVAL);
  const none = linux.open('/dev/null');
  t.true(none > 2);
  t.is(linux.ioctl(none, 0x3b64), -Errno.ENOTTY);
  t.is(linux.ioctl(none, 0x3b64, new Uint8Array(16)), -Errno.ENOTTY);
  t.is(linux.close(none), 0);
});

onLinux('files are read and written at offsets, folders listed, links followed', (t, linux) => {
  const work = folder(t);
  const path = join(work, 'file');
  writeFileSync(path, 'abcdef');
  symlinkSync('file', join(work, 'link'));
  t.is(linux.readlink(join(work, 'link')), 'file');
  t.deepEqual([...(linux.readdir(work) as string[])].sort(), ['file', 'link']);
  const fd = linux.open(path);
  const bytes = new Uint8Array(4);
  t.is(linux.pread(fd, bytes, 4), 2);
  t.deepEqual([...bytes], [101, 102, 0, 0]);
  t.is(linux.pwrite(fd, Uint8Array.of(88, 89), 2 ** 33), 2);
  t.is(linux.pread(fd, bytes.subarray(1), 2 ** 33 - 1), 3);
  t.deepEqual([...bytes], [101, 0, 88, 89]);
  linux.close(fd);
});

onLinux('the kernel writes into a structure, wherever it lies in its buffer', (t, linux) => {
  const FIONREAD = 0x541b;
  const bytes = new Uint8Array(16).fill(0xff);
  const terminal = linux.open('/dev/ptmx');
  t.is(linux.ioctl(terminal, FIONREAD, bytes.subarray(4, 8)), 0);
  t.deepEqual([...bytes], [255, 255, 255, 255, 0, 0, 0, 0, ...Array<number>(8).fill(255)]);
  t.is(linux.close(terminal), 0);
});

onLinux('an eventfd calls when it is written to, and no more when nobody watches', async (t, linux) => {
  const fd = linux.eventfd();
  const count = new Uint8Array(8);
  t.is(linux.read(fd, count), -Errno.EAGAIN);
  const came = new Promise<number>(resolve => {
    const watch = linux.onReadable(fd, () => {
      const got = linux.read(fd, count);
      watch[Symbol.dispose]();
      resolve(got);
    });
  });
  t.is(linux.write(fd, Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0)), 8);
  t.is(await came, 8);
  t.is(count[0], 3);
  t.is(linux.close(fd), 0);
});

onLinux('mapped memory is the process’s own, shared, and gone when it is unmapped', (t, linux) => {
  const length = 65 * 2 ** 20;
  const mapped = linux.mmap(length);
  if (typeof mapped === 'number') return t.fail(`errno ${-mapped}`);
  const { address, ram } = mapped;
  t.is(ram.size, length);
  t.is(mappedAt(address), 'rw-s');
  const last = length - 3;
  t.is(ram.write(0, last, Uint8Array.of(1, 2, 3)), MemTx.OK);
  // The kernel sees the same bytes.
  const own = linux.open('/proc/self/mem');
  const bytes = new Uint8Array(3);
  t.is(linux.pread(own, bytes, address + last), 3);
  t.deepEqual([...bytes], [1, 2, 3]);
  t.is(linux.pwrite(own, Uint8Array.of(9), address), 1);
  t.is(ram.read(0, 0, bytes), MemTx.OK);
  t.deepEqual([...bytes], [9, 0, 0]);
  t.is(linux.munmap(address, length), 0);
  t.not(mappedAt(address), 'rw-s');
  t.is(ram.read(0, 0, bytes), MemTx.OK, 'nobody is killed who still looks');
  t.deepEqual([...bytes], [0, 0, 0]);
  t.is(linux.close(own), 0);
});
