import test, { type ExecutionContext } from 'ava';
import { Errno } from '@remora/core';
import { Capability, Command, Config, ExtendedCapability, type PciFunction } from '@remora/pci';
import { owner } from '@remora/testing';
import {
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
  VFIO_TYPE1v2_IOMMU,
  VfioDeviceInfo,
  VfioIrqInfo,
  VfioIrqSet,
  VfioPciIrq,
  VfioRegionInfo,
  viewOf,
} from '@remora/uapi';
import type { Gadget } from '../bench.test.helper.js';
import { bench, deviceOf, ENGINE, ready } from '../bench.test.helper.js';
import type { HostProcess } from '../process.js';
import type { SimulatedHost } from '../simulated-host.js';

const CONFIG = 7 * 2 ** 40;
const TRIGGER = 0x20;
const EVENTFD = 4;
const BOOL = 2;
const NONE = 1;

class Client {
  readonly host: SimulatedHost;
  readonly process: HostProcess;
  readonly fd: number;
  readonly groups: readonly number[];
  readonly gadget: Gadget;
  readonly fn: PciFunction;

  constructor(t: ExecutionContext) {
    this.host = owner(t)(bench()).host;
    this.process = this.host.process('vmm');
    this.groups = ready(this.process, VFIO_TYPE1v2_IOMMU, 1).groups;
    this.fd = deviceOf(this.process, this.groups[0]!, ENGINE);
    this.gadget = this.host.device(ENGINE);
    this.fn = this.gadget.fn;
  }

  read(offset: number, size: number): number {
    const bytes = new Uint8Array(size);
    const result = this.process.pread(this.fd, bytes, offset);
    return result === size ? bytes.reduceRight((value, byte) => value * 0x100 + byte, 0) : result;
  }

  write(offset: number, value: number, size: number): number {
    return this.process.pwrite(
      this.fd,
      Uint8Array.from({ length: size }, (_, at) => value >>> (8 * at)),
      offset,
    );
  }

  irqs(flags: number, index: number, start: number, count: number, data: readonly number[] = [], each = 4): number {
    const bytes = new Uint8Array(VfioIrqSet.size + each * data.length);
    const view = viewOf(bytes);
    VfioIrqSet.write(view, { argsz: bytes.length, flags, index, start, count });
    data.forEach((value, at) => (each === 4 ? view.setInt32(20 + 4 * at, value, true) : view.setUint8(20 + at, value)));
    return this.process.ioctl(this.fd, VFIO_DEVICE_SET_IRQS, bytes);
  }

  counter(eventfd: number): number {
    const bytes = new Uint8Array(8);
    const result = this.process.read(eventfd, bytes);
    return result < 0 ? result : viewOf(bytes).getUint32(0, true);
  }

  master(): void {
    this.write(CONFIG + Config.COMMAND, Command.MASTER | Command.MEMORY, 2);
  }
}

test('what a device says of itself', t => {
  const client = new Client(t);
  const info = VfioDeviceInfo.encode({ argsz: 20 });
  t.is(client.process.ioctl(client.fd, VFIO_DEVICE_GET_INFO, info), 0);
  t.like(VfioDeviceInfo.decode(viewOf(info)), { flags: 3, num_regions: 9, num_irqs: 5 });
  const regions = Array.from({ length: 9 }, (_, index) => {
    const bytes = VfioRegionInfo.encode({ argsz: 32, index });
    const result = client.process.ioctl(client.fd, VFIO_DEVICE_GET_REGION_INFO, bytes);
    const { flags, size, offset } = VfioRegionInfo.decode(viewOf(bytes));
    return result < 0 ? result : [flags, size, Number(offset) / 2 ** 40];
  });
  t.deepEqual(regions, [
    [3, 0x1000, 0],
    [0, 0, 1],
    [3, 0x1000, 2],
    [0, 0, 3],
    [0, 0, 4],
    [0, 0, 5],
    [0, 0, 6],
    [3, 0x1000, 7],
    -Errno.EINVAL,
  ]);
  const irqs = Array.from({ length: 6 }, (_, index) => {
    const bytes = VfioIrqInfo.encode({ argsz: 16, index });
    const result = client.process.ioctl(client.fd, VFIO_DEVICE_GET_IRQ_INFO, bytes);
    return result < 0 ? result : VfioIrqInfo.decode(viewOf(bytes)).count;
  });
  t.deepEqual(irqs, [0, 4, 8, 0, 0, -Errno.EINVAL]);
  t.is(client.process.ioctl(client.fd, 0x3b99), -Errno.ENOTTY);
});

test('configuration space: identity is the function’s, BARs are sized without touching it', t => {
  const client = new Client(t);
  t.is(client.read(CONFIG, 4), 0x10ff_1af4);
  t.is(client.read(CONFIG + Config.BAR0, 4), 0x4);
  client.write(CONFIG + Config.BAR0, 0xffff_ffff, 4);
  client.write(CONFIG + Config.BAR0 + 4, 0xffff_ffff, 4);
  t.is(client.read(CONFIG + Config.BAR0, 4), 0xffff_f004);
  t.is(client.read(CONFIG + Config.BAR0 + 4, 4), 0xffff_ffff);
  client.write(CONFIG + Config.BAR0, 0xfeb0_0000, 4);
  client.write(CONFIG + Config.BAR0 + 4, 0, 4);
  t.is(client.read(CONFIG + Config.BAR0, 4), 0xfeb0_0004);
  t.is(client.fn.config.get32(Config.BAR0), 0x4, 'where the host has it is the host’s affair');
  client.write(CONFIG + 0x14 + 4, 0xffff_ffff, 4);
  t.is(client.read(CONFIG + 0x18, 4), 0xffff_f000, 'BAR 2');
  client.write(CONFIG + 0x30, 0xffff_ffff, 4);
  t.is(client.read(CONFIG + 0x30, 4), 0, 'no ROM');
});

test('COMMAND: bus mastering is real, decoding is the user’s view', t => {
  const client = new Client(t);
  client.write(CONFIG + Config.COMMAND, 0x7, 2);
  t.is(client.read(CONFIG + Config.COMMAND, 2), 0x7);
  t.is(client.fn.config.get16(Config.COMMAND), Command.MASTER);
  client.write(CONFIG + Config.COMMAND, 0, 2);
  t.is(client.fn.config.get16(Config.COMMAND), 0);
});

test('odd sizes and places of configuration accesses', t => {
  const client = new Client(t);
  client.write(CONFIG + Config.INTERRUPT_LINE, 0x5a, 1);
  t.is(client.read(CONFIG + Config.INTERRUPT_LINE, 1), 0x5a);
  t.is(client.fn.config.get8(Config.INTERRUPT_LINE), 0);
  const three = new Uint8Array(3);
  t.is(client.process.pread(client.fd, three, CONFIG + 1), 3);
  t.deepEqual([...three], [0x1a, 0xff, 0x10]);
  t.is(client.process.pread(client.fd, new Uint8Array(8), CONFIG + 0xffc), -Errno.EFAULT, 'across the end');
  t.is(client.process.pread(client.fd, new Uint8Array(1), CONFIG + 0x1000), -Errno.EFAULT);
  t.is(client.process.pread(client.fd, new Uint8Array(1), 8 * 2 ** 40), -Errno.EINVAL);
});

test('PASID: the user sees the capability, the kernel alone decides', t => {
  const client = new Client(t);
  const at = client.fn.capabilities.findExtended(ExtendedCapability.PASID)!;
  t.is(client.read(CONFIG + at, 2), ExtendedCapability.PASID);
  t.is((client.read(CONFIG + at + 4, 2) >>> 8) & 0x1f, 20);
  client.write(CONFIG + at + 6, 1, 2);
  t.is(client.read(CONFIG + at + 6, 2), 1);
  t.false(client.fn.pasidEnabled);
});

test('a BAR reaches the device’s registers, while the user decodes memory', t => {
  const client = new Client(t);
  t.is(client.write(0x10, 0x1234_5678, 4), -Errno.EIO);
  client.write(CONFIG + Config.COMMAND, Command.MEMORY, 2);
  t.is(client.write(0x10, 0x1234_5678, 4), 4);
  t.is(client.gadget.scratch, 0x1234_5678);
  t.is(client.read(0x10, 4), 0x1234_5678);
  t.is(client.read(0x1000, 4), -Errno.EINVAL, 'beyond the BAR');
  t.is(client.read(2 ** 40, 4), -Errno.EINVAL, 'no BAR 1');
});

test('MSI: a message becomes a signal of its vector’s eventfd', t => {
  const client = new Client(t);
  const fds = [client.process.eventfd(), client.process.eventfd()];
  t.is(client.irqs(EVENTFD | TRIGGER, VfioPciIrq.MSI, 0, 2, fds), 0);
  client.fn.msi(0);
  t.is(client.counter(fds[0]!), -Errno.EAGAIN, 'the function does not master the bus');
  client.master();
  client.fn.msi(1);
  client.fn.msi(1);
  client.fn.msi(0);
  t.deepEqual(
    fds.map(fd => client.counter(fd)),
    [1, 2],
  );
  t.deepEqual(
    fds.map(fd => client.counter(fd)),
    [-Errno.EAGAIN, -Errno.EAGAIN],
  );
  const msi = client.fn.capabilities.find(Capability.MSI)!;
  t.is(client.read(CONFIG + msi + 2, 2) & 1, 0, 'the user did not enable it in what he sees');
  client.write(CONFIG + msi + 4, 0xfee0_1000, 4);
  t.is(client.read(CONFIG + msi + 4, 4), 0xfee0_1000);
  client.fn.msi(0);
  t.is(client.counter(fds[0]!), 1, 'and what he writes there moves nothing');
});

test('MSI-X: vectors with and without eventfd, connected later, disconnected', t => {
  const client = new Client(t);
  const [one, two] = [client.process.eventfd(), client.process.eventfd()];
  client.master();
  t.is(client.irqs(EVENTFD | TRIGGER, VfioPciIrq.MSIX, 0, 3, [one, -1, -1]), 0);
  t.is(client.irqs(EVENTFD | TRIGGER, VfioPciIrq.MSIX, 2, 1, [two]), 0);
  for (const vector of [0, 1, 2, 3]) client.fn.msi(vector);
  t.deepEqual([client.counter(one), client.counter(two)], [1, 1]);
  t.is(client.irqs(EVENTFD | TRIGGER, VfioPciIrq.MSIX, 0, 1, [-1]), 0);
  client.fn.msi(0);
  t.is(client.counter(one), -Errno.EAGAIN);
  t.is(client.irqs(EVENTFD | TRIGGER, VfioPciIrq.MSIX, 2, 2, [one, two]), -Errno.EINVAL, 'more than were enabled');
  t.is(client.irqs(EVENTFD | TRIGGER, VfioPciIrq.MSI, 0, 1, [one]), -Errno.EINVAL, 'MSI-X is in use');
  t.is(client.irqs(NONE | TRIGGER, VfioPciIrq.MSIX, 0, 0), 0);
  t.is(client.irqs(EVENTFD | TRIGGER, VfioPciIrq.MSI, 0, 1, [one]), 0);
});

test('the MSI-X table is the kernel’s: reads are ones, writes change nothing', t => {
  const client = new Client(t);
  const fd = client.process.eventfd();
  client.master();
  client.irqs(EVENTFD | TRIGGER, VfioPciIrq.MSIX, 0, 1, [fd]);
  const table = 2 * 2 ** 40;
  t.is(client.read(table, 4), 0xffff_ffff);
  t.is(client.write(table + 8, 0x77, 4), 4);
  client.fn.msi(0);
  t.is(client.counter(fd), 1);
});

test('what SET_IRQS refuses', t => {
  const client = new Client(t);
  const fd = client.process.eventfd();
  const MSI = VfioPciIrq.MSI;
  t.is(client.irqs(EVENTFD | TRIGGER, 5, 0, 1, [fd]), -Errno.EINVAL, 'no such index');
  t.is(client.irqs(EVENTFD | TRIGGER, MSI, 0, 5, [fd, fd, fd, fd, fd]), -Errno.EINVAL, 'more vectors than there are');
  t.is(client.irqs(EVENTFD | TRIGGER, MSI, 4, 1, [fd]), -Errno.EINVAL);
  t.is(client.irqs(EVENTFD | TRIGGER, MSI, 0, 0xffff_ffff, [fd]), -Errno.EINVAL);
  t.is(client.irqs(EVENTFD | TRIGGER, MSI, 0, 2, [fd]), -Errno.EINVAL, 'data for one vector only');
  t.is(client.irqs(EVENTFD | BOOL | TRIGGER, MSI, 0, 1, [fd]), -Errno.EINVAL, 'two kinds of data');
  t.is(client.irqs(TRIGGER, MSI, 0, 1, [fd]), -Errno.EINVAL, 'no kind of data');
  t.is(client.irqs(0x40 | EVENTFD | TRIGGER, MSI, 0, 1, [fd]), -Errno.EINVAL, 'unknown flag');
  t.is(client.irqs(EVENTFD | TRIGGER, MSI, 0, 1, [99]), -Errno.EBADF);
  t.is(client.irqs(EVENTFD | TRIGGER, MSI, 0, 1, [client.fd]), -Errno.EINVAL, 'not an eventfd');
  t.is(client.irqs(EVENTFD | 8, MSI, 0, 1, [fd]), -Errno.ENOTTY, 'masking is not for MSI');
  t.is(client.irqs(NONE | TRIGGER, MSI, 0, 1), -Errno.EINVAL, 'not enabled');
  t.is(client.host.dump()['interrupts'], 1, 'only the IOMMU’s own vector');
});

test('loopback: a user triggers vectors himself', t => {
  const client = new Client(t);
  const fds = [client.process.eventfd(), client.process.eventfd()];
  client.irqs(EVENTFD | TRIGGER, VfioPciIrq.MSI, 0, 2, fds);
  t.is(client.irqs(NONE | TRIGGER, VfioPciIrq.MSI, 0, 2), 0);
  t.is(client.irqs(BOOL | TRIGGER, VfioPciIrq.MSI, 0, 2, [0, 1], 1), 0);
  t.deepEqual(
    fds.map(fd => client.counter(fd)),
    [1, 2],
  );
});

test('reset: the device forgets, interrupts stay connected, mastering ends', t => {
  const client = new Client(t);
  const fd = client.process.eventfd();
  client.master();
  client.irqs(EVENTFD | TRIGGER, VfioPciIrq.MSIX, 0, 1, [fd]);
  const { resets } = client.gadget;
  t.is(client.process.ioctl(client.fd, VFIO_DEVICE_RESET), 0);
  t.is(client.gadget.resets, resets + 1);
  t.is(client.fn.config.get16(Config.COMMAND), 0);
  client.master();
  client.fn.msi(0);
  t.is(client.counter(fd), 1);
});

test('a function-level reset through configuration space is the same reset', t => {
  const client = new Client(t);
  const fd = client.process.eventfd();
  client.irqs(EVENTFD | TRIGGER, VfioPciIrq.MSI, 0, 1, [fd]);
  const { resets } = client.gadget;
  const control = CONFIG + client.fn.capabilities.find(Capability.EXPRESS)! + 8;
  client.write(control, 0x8000, 2);
  t.is(client.gadget.resets, resets + 1);
  client.master();
  client.fn.msi(0);
  t.is(client.counter(fd), 1);
});

test('closing ends the interrupts and the DMA', t => {
  const client = new Client(t);
  client.master();
  client.irqs(EVENTFD | TRIGGER, VfioPciIrq.MSI, 0, 1, [client.process.eventfd()]);
  client.process.close(client.fd);
  t.is(client.fn.config.get16(Config.COMMAND), 0);
  t.is(client.host.dump()['interrupts'], 1);
});

test('a device opened twice is reset at the first opening and the last closing only', t => {
  const client = new Client(t);
  const { resets } = client.gadget;
  const second = deviceOf(client.process, client.groups[0]!, ENGINE);
  client.master();
  client.process.close(client.fd);
  t.is(client.gadget.resets, resets);
  t.is(client.fn.config.get16(Config.COMMAND), Command.MASTER);
  client.process.close(second);
  t.is(client.gadget.resets, resets + 1);
});

test('an eventfd calls its listeners, at once if there is something already', t => {
  const { process } = new Client(t);
  const fd = process.eventfd();
  const heard: string[] = [];
  const one = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);
  const early = process.onReadable(fd, () => heard.push('early'));
  process.write(fd, one);
  process.onReadable(fd, () => heard.push('late'));
  t.deepEqual(heard, ['early', 'late']);
  early[Symbol.dispose]();
  process.write(fd, one);
  t.deepEqual(heard, ['early', 'late', 'late']);
  t.is(process.read(fd, new Uint8Array(7)), -Errno.EINVAL);
  t.is(process.pread(fd, new Uint8Array(8), 0), -Errno.ESPIPE, 'it has no positions');
  t.is(process.write(fd, new Uint8Array(7)), -Errno.EINVAL);
  t.is(process.write(fd, new Uint8Array(8).fill(0xff)), -Errno.EAGAIN, 'more than the counter holds');
  t.throws(() => process.onReadable(99, () => {}), { message: /nothing that could be waited for/ });
});
