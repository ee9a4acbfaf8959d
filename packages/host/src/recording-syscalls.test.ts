import test from 'ava';
import { hva } from '@remora/bits';
import { Errno, Ledger } from '@remora/core';
import {
  IOMMU_HWPT_ALLOC,
  IOMMU_HWPT_INVALIDATE,
  IommuHwptAlloc,
  IommuHwptInvalidate,
  IommuHwptVtdS1,
  IommuHwptVtdS1Invalidate,
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_PASID_REQUEST,
  viewOf,
} from '@remora/uapi';
import { ForwardingSyscalls } from './forwarding-syscalls.js';
import { RecordingSyscalls } from './recording-syscalls.js';
import { ScriptedSyscalls } from './scripted-syscalls.test.helper.js';
import type { HostSyscalls, MappedMemory } from './syscalls.js';

/** Each system call once. */
function callAll(syscalls: HostSyscalls): unknown[] {
  const buffer = new Uint8Array(4);
  return [
    syscalls.open('/x'),
    syscalls.readlink('/y'),
    syscalls.ioctl(3, 0x3b64),
    syscalls.pread(3, buffer, 8),
    syscalls.pwrite(3, buffer, 16),
    typeof syscalls.mmap(4096),
    syscalls.munmap(hva(4096), 4096),
    syscalls.eventfd(),
    typeof syscalls.onReadable(4, () => {}),
    syscalls.close(3),
  ];
}

function made(on: boolean): { script: ScriptedSyscalls; ledger: Ledger; recorded: RecordingSyscalls } {
  const script = new ScriptedSyscalls().on(0x3b64, 0);
  const ledger = new Ledger();
  ledger.on = on;
  return { script, ledger, recorded: new RecordingSyscalls(script, ledger, 'vm0/host-syscalls') };
}

test('every call is passed on, and its result back', t => {
  const bare = new ScriptedSyscalls().on(0x3b64, 0);
  const results = callAll(bare);
  const behind = new ScriptedSyscalls().on(0x3b64, 0);
  t.deepEqual(callAll(new ForwardingSyscalls(behind)), results);
  t.deepEqual(behind.calls, bare.calls);
  for (const on of [false, true]) {
    const { script, recorded } = made(on);
    t.deepEqual(callAll(recorded), results, `ledger ${on}`);
    t.deepEqual(script.calls, bare.calls);
  }
});

test('off, nothing is recorded; on, every call, but looking only if it fails', t => {
  const off = made(false);
  callAll(off.recorded);
  t.is(off.ledger.events.length, 0);
  const on = made(true);
  callAll(on.recorded);
  t.deepEqual(
    on.ledger.events.map(({ kind, data }) => [kind, data['name'], data['result']]),
    [
      ['syscall', 'open', 3],
      ['syscall', 'readlink', -Errno.ENOENT],
      ['ioctl', 'VFIO_GET_API_VERSION', 0],
      ['syscall', 'pread', 4],
      ['syscall', 'pwrite', 4],
      ['syscall', 'mmap', 0x7f00_0000_0000],
      ['syscall', 'munmap', 0],
      ['syscall', 'eventfd', 4],
      ['syscall', 'close', 0],
    ],
  );
});

/** Every call fails. */
class Refusing extends ScriptedSyscalls {
  override open = (): number => -Errno.EIO;
  override readlink = (): number => -Errno.EIO;
  override readdir = (): number => -Errno.EIO;
  override close = (): number => -Errno.EIO;
  override ioctl = (): number => -Errno.EIO;
  override pread = (): number => -Errno.EIO;
  override pwrite = (): number => -Errno.EIO;
  override read = (): number => -Errno.EIO;
  override write = (): number => -Errno.EIO;
  override mmap = (): number => -Errno.EIO;
  override munmap = (): number => -Errno.EIO;
  override eventfd = (): number => -Errno.EIO;
}

test('no negative result is missing from the ledger', t => {
  const ledger = new Ledger();
  ledger.on = true;
  const calls: [number, ...unknown[]][] = [];
  const refusing = new Refusing();
  const recorded = new RecordingSyscalls(refusing, ledger, 'vm0/host-syscalls');
  const names = Object.keys(refusing).filter(name => typeof Reflect.get(refusing, name) === 'function');
  t.is(names.length, 12);
  for (const name of names) {
    const call = Reflect.get(recorded, name) as (...all: unknown[]) => number;
    const argument = name === 'open' || name.startsWith('readl') || name === 'readdir' ? '/x' : 3;
    calls.push([call.call(recorded, argument, new Uint8Array(8), 0)]);
  }
  t.true(calls.every(([result]) => result === -Errno.EIO));
  const failed = ledger.events.filter(({ data }) => data['result'] === -Errno.EIO);
  t.is(failed.length, names.length);
});

test('an ioctl: number, name, argsz, fields, bytes before, result, and bytes after if they changed', t => {
  const { script, ledger, recorded } = made(true);
  script.on(VFIO_IOMMU_PASID_REQUEST, argument => {
    ledger.add('host', 'inner', {});
    viewOf(argument as Uint8Array).setUint32(16, 5, true);
    return 0;
  });
  const bytes = Uint8Array.from(Buffer.from('140000000100000001000000ffff0f0000000000', 'hex'));
  recorded.ioctl(9, VFIO_IOMMU_PASID_REQUEST, bytes);
  const [event, inner] = ledger.events;
  t.deepEqual(event!.data, {
    fd: 9,
    number: 0x3b7a,
    name: 'VFIO_IOMMU_PASID_REQUEST',
    argsz: 20,
    fields: { argsz: 20, flags: 1, min: 1, max: 0xfffff, result: 0 },
    bytes: Uint8Array.from(Buffer.from('140000000100000001000000ffff0f0000000000', 'hex')),
    result: 0,
    answer: bytes,
  });
  t.is(inner!.cause, event!.id, 'what the host does is caused by the call');
});

test('numbers that two series use are named by the variant; short and unknown ones by what is there', t => {
  const ledger = new Ledger();
  ledger.on = true;
  const vmid = new RecordingSyscalls(new ScriptedSyscalls(), ledger, 'vm0', 'vmid-rfc-v2');
  vmid.ioctl(3, VFIO_IOMMU_BIND, 7);
  vmid.ioctl(3, 0x3bee, new Uint8Array(4));
  const rfc = new RecordingSyscalls(new ScriptedSyscalls(), ledger, 'vm0');
  rfc.ioctl(3, VFIO_IOMMU_BIND, new Uint8Array(2));
  t.deepEqual(
    ledger.events.map(({ data }) => [data['name'], data['argsz'], data['argument']]),
    [
      ['VFIO_IOMMU_SET_VMID', undefined, 7],
      ['0x3bee', undefined, undefined],
      ['VFIO_IOMMU_BIND', undefined, undefined],
    ],
  );
});

test('what a structure points to is recorded with it: as it was when the call was made, of memory that is mapped', t => {
  const { script, ledger, recorded } = made(true);
  const { address, ram } = recorded.mmap(8192) as MappedMemory;
  const root = IommuHwptVtdS1.encode({ flags: 1, pgtbl_addr: 0x12_3000, addr_width: 48 });
  ram.write(0, 4096, root);
  const data = { data_type: 1, data_len: root.length, data_uptr: address + 4096 };
  const alloc = IommuHwptAlloc.encode({ size: IommuHwptAlloc.size, ...data });
  script.on(IOMMU_HWPT_ALLOC, () => ram.write(0, 4096, new Uint8Array(24)));
  recorded.ioctl(3, IOMMU_HWPT_ALLOC, alloc);
  const entries = [
    { addr: 0x5000, npages: 4, flags: 1 },
    { addr: 0, npages: 2n ** 64n - 1n, flags: 0 },
  ];
  entries.forEach((entry, index) => ram.write(0, 24 * index, IommuHwptVtdS1Invalidate.encode(entry)));
  const array = { data_uptr: address, entry_len: 24, entry_num: 2 };
  recorded.ioctl(3, IOMMU_HWPT_INVALIDATE, IommuHwptInvalidate.encode({ size: IommuHwptInvalidate.size, ...array }));
  recorded.munmap(address, 8192);
  recorded.ioctl(3, IOMMU_HWPT_ALLOC, alloc);
  const seen = ledger.events.filter(({ kind }) => kind === 'ioctl').map(({ data: { fields } }) => fields);
  t.deepEqual(
    seen.map(fields => (fields as { data?: unknown }).data),
    [{ flags: 1, pgtbl_addr: 0x12_3000, addr_width: 48 }, entries, undefined],
  );
});
