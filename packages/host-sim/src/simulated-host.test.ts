import test from 'ava';
import { ConfigError, Errno, Ledger, MemTx, Ram, Region } from '@remora/core';
import type { HostIommuFault } from '@remora/iommu';
import { FakeIommuDriver, owner } from '@remora/testing';
import { bench, ENGINE, gadget, mapped, SECOND } from './bench.test.helper.js';
import type { HostIommuPlatform } from './options.js';
import { simulatedHost } from './simulated-host.js';

test('the seed moves frames and addresses, and the same seed gives the same host', t => {
  const own = owner(t);
  const places = (seed: number): number[] => {
    const memory = mapped(own(simulatedHost({ memory: 0x100_0000, seed })).process('vmm'), 0x4000);
    return [memory.address, ...[0, 1, 2, 3].map(frame => memory.ram.backing(frame))];
  };
  t.deepEqual(places(4), places(4));
  const [one, other] = [places(4), places(5)];
  t.not(one[0], other[0]);
  t.notDeepEqual(one.slice(1), other.slice(1));
});

test('memory that others have, too: what a process maps is one piece of it', t => {
  const ram = Ram.allocate(0x100_0000);
  const host = owner(t)(simulatedHost({ ram }));
  t.is(host.memory, ram);
  const process = host.process('vmm');
  const memory = mapped(process, 0x4_0000);
  const first = memory.ram.backing(0);
  for (let frame = 0; frame < memory.ram.frames; frame++) t.is(memory.ram.backing(frame), first + frame);
  const used = host.dump()['frames'];
  t.is(process.munmap(memory.address, 0x4_0000), 0);
  t.is(host.dump()['frames'], Number(used) - 64);
  t.is(process.mmap(0x200_0000), -Errno.ENOMEM);
  t.throws(() => simulatedHost({ ram, memory: 0x200_0000 }), { instanceOf: ConfigError, message: /^ram: / });
});

test('two processes share no frame and no address', t => {
  const host = owner(t)(simulatedHost({ memory: 0x100_0000 }));
  const [one, two] = ['a', 'b'].map(name => mapped(host.process(name), 0x1_0000));
  const frames = [one!, two!].flatMap(({ ram }) => Array.from({ length: 16 }, (_, frame) => ram.backing(frame)));
  t.is(new Set(frames).size, 32);
  t.not(one!.address, two!.address);
  t.is(host.hpaOf(one!.ram, 3), one!.ram.backing(3) * 4096);
});

test('host memory is where host-physical addresses say', t => {
  const host = owner(t)(simulatedHost({ memory: 0x100_0000 }));
  const { ram } = mapped(host.process('vmm'), 0x1000);
  ram.write(0, 0x20, Uint8Array.of(0xab));
  const byte = new Uint8Array(1);
  t.is(host.addressSpace.read(0, host.hpaOf(ram, 0)! + 0x20, byte), MemTx.OK);
  t.is(byte[0], 0xab);
});

test('more memory than fits below the registers goes above them', t => {
  const host = owner(t)(simulatedHost({ memory: 0x1_0000_0000 }));
  const byte = new Uint8Array(1);
  t.is(host.addressSpace.read(0, 0xbfff_ffff, byte), MemTx.OK);
  t.is(host.addressSpace.read(0, 0xc000_0000, byte), MemTx.DECODE_ERROR);
  t.is(host.addressSpace.read(0, 0xffff_ffff, byte), MemTx.DECODE_ERROR);
  t.is(host.addressSpace.read(1, 0, byte), MemTx.OK);
  t.is(host.addressSpace.read(1, 0x3fff_ffff, byte), MemTx.OK);
  t.is(host.addressSpace.read(1, 0x4000_0000, byte), MemTx.DECODE_ERROR);
});

test('what is configured wrongly is told with its path', t => {
  t.throws(() => simulatedHost({ memory: 5000 }), { message: /^memory: 5000 is not a positive multiple/ });
  t.throws(() => simulatedHost({ devices: [gadget(ENGINE), gadget(ENGINE)] }), { message: /needs another place/ });
  t.throws(() => simulatedHost({ devices: [gadget('zz')] }), {
    message: /^devices\[0\]\.at: "zz" is not a PCI address/,
  });
  const silent = { at: ENGINE, create: () => ({ name: 'mute', [Symbol.dispose]: () => {} }) };
  t.throws(() => simulatedHost({ devices: [silent] }), { message: /^devices\[0\]: mute did not plug/ });
  const host = owner(t)(simulatedHost({ devices: [gadget(ENGINE)] }));
  t.throws(() => host.device('0000:00:09.0'), { message: /the host has no device 0000:00:09.0; it has 0000:3f:00.0/ });
});

test('devices are found under any spelling of their address', t => {
  const { host } = owner(t)(bench({ devices: [gadget('3f:00.0'), gadget('0000:00:1f.2')] }));
  t.is(host.device('3f:0.0').name, ENGINE);
  t.is(host.function(ENGINE).requesterId, 0x3f00);
  t.is(host.function('00:1f.2').requesterId, 0x00fa);
});

test('a device without a container is blocked: nothing of the host is in its reach', t => {
  const { host } = owner(t)(bench());
  const fn = host.function(SECOND);
  fn.config.write(4, 0x4, 2);
  t.not(fn.dma.write(0, 0x1000, Uint8Array.of(1)), MemTx.OK);
});

test('the unit: registers, pages of host memory, a message that makes the host take its faults', t => {
  const fault: HostIommuFault = { requesterId: 0x3f00, pasid: 5, hi: 0, lo: 0x1000, write: true, reason: 7 };
  class FaultyDriver extends FakeIommuDriver {
    readonly waiting: HostIommuFault[] = [];
    override takeFaults(): HostIommuFault[] {
      return this.waiting.splice(0);
    }
  }
  const driver = new FaultyDriver();
  const ledger = new Ledger();
  ledger.on = true;
  let platform: HostIommuPlatform | undefined;
  let written = 0;
  const host = owner(t)(
    simulatedHost({
      memory: 0x100_0000,
      ledger,
      iommu: given => {
        platform = given;
        const ops = { read: () => 0, write: (_offset: number, value: number) => void (written = value) };
        given.mapMmio(0xfed9_0000, Region.mmio('unit', 0x1000, ops));
        return { driver, pci: { wantsNesting: false, addressSpaceFor: () => given.addressSpace } };
      },
    }),
  );
  host.addressSpace.store(0, 0xfed9_0018, Int32Array.of(42), 0, 1);
  t.is(written, 42);
  const frame = platform!.pages.allocate(2);
  t.is(host.dump()['kernelPages'], 2);
  platform!.pages.free(frame, 2);
  t.is(host.dump()['kernelPages'], 0);
  t.throws(() => platform!.pages.free(frame, 2), { message: /are not out/ });
  driver.waiting.push(fault);
  const { hi, lo, data } = platform!.faultMessage;
  platform!.sendMsi(hi, lo, data);
  t.deepEqual(
    ledger.events.map(({ kind, data: said }) => [kind, said]),
    [['host-fault', { ...fault }]],
  );
  t.deepEqual(host.takeFaults(), [fault]);
  t.deepEqual(host.faults, []);
});

test('a dump is plain data', t => {
  const { host } = owner(t)(bench());
  mapped(host.process('vmm'), 0x4000);
  const dump = host.dump();
  t.deepEqual(JSON.parse(JSON.stringify(dump)), dump);
});

test('a closed host has unplugged its devices', t => {
  const { host } = bench();
  const fn = host.function(ENGINE);
  host[Symbol.dispose]();
  t.is(fn.bus, undefined);
});
