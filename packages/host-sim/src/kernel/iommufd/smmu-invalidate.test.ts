/**
 * peers.md 3.6, 4 and 10: a guest's commands for an SMMU. What counts is what the unit forgot, not what the host says that it did: after an error
 * `entry_num` may be more than was flushed (peers.md 3.4, the trap).
 */
import test, { type ExecutionContext } from 'ava';
import { Errno } from '@remora/core';
import { smmuCommand, SmmuOpcode, SmmuType } from '@remora/testing';
import { smmuHost, viommuOf, type SmmuHost } from './smmu-host.test.helper.js';

const ASID = 7;
const COUNT = 128;
const BLOCK = 63;
const VIRTUAL = 0x10;
const TLBI_S12_VMALL = 0x28;

const pages = (from: number): number[] => Array.from({ length: COUNT - from }, (_, index) => from + index);
const flushOf = (page: number): Uint8Array =>
  smmuCommand({ opcode: SmmuOpcode.TLBI_NH_VA, vmid: 99, asid: ASID, address: page * 4096, leaf: true });

/** A VM with a device whose StreamID is 0x10 there, and 128 translations of its in the unit; another VM has the same ones. */
function planted(t: ExecutionContext) {
  const host = smmuHost(t);
  const viommu = viommuOf(t, host);
  t.true(host.user.vdevice(viommu, host.devices[0].id, VIRTUAL) > 0);
  const [own] = [...host.driver.domains].map(domain => domain.id);
  const other = own! + 1;
  host.driver.caches.translations = pages(0).flatMap(page => [
    { vmid: own!, asid: ASID, page },
    { vmid: other, asid: ASID, page },
  ]);
  const left = (vmid: number): number[] =>
    host.driver.caches.translations.filter(entry => entry.vmid === vmid).map(({ page }) => page);
  const send = (commands: readonly Uint8Array[]) => host.user.invalidate(viommu, SmmuType.INVALIDATE_SMMUV3, commands);
  return { host, viommu, own: own!, other, left, send };
}

const batches = ({ driver }: SmmuHost): number[] => driver.issued.map(batch => batch.length);

test('3.6/4: 128 commands go out in blocks of 63, and only this VM’s translations go', t => {
  const { host, own, other, left, send } = planted(t);
  t.deepEqual(send(pages(0).map(flushOf)), { result: 0, processed: COUNT });
  t.deepEqual(batches(host), [63, 63, 2]);
  t.deepEqual([left(own), left(other)], [[], pages(0)]);
});

for (const at of [0, 1, 62, 63, 64, 127]) {
  for (const [what, bad] of [
    ['an opcode that is not a guest’s', smmuCommand({ opcode: TLBI_S12_VMALL, vmid: 99 })],
    ['a StreamID without a virtual device', smmuCommand({ opcode: SmmuOpcode.ATC_INV, sid: VIRTUAL + 1 })],
  ] as const) {
    test(`3.6/4: ${what} at entry ${at}: entry_num is ${at}, and whole blocks before it are flushed`, t => {
      const { host, own, other, left, send } = planted(t);
      const commands = pages(0).map(flushOf);
      commands[at] = bad;
      t.deepEqual(send(commands), { result: -Errno.EIO, processed: at });
      const flushed = Math.floor(at / BLOCK) * BLOCK;
      t.deepEqual(left(own), pages(flushed));
      t.deepEqual(
        batches(host),
        Array.from({ length: flushed / BLOCK }, () => BLOCK),
      );
      // Whoever believes entry_num leaves what was only converted: the safe rule is to go on after the last block that succeeded.
      for (const command of commands.slice(flushed)) send([command]);
      t.deepEqual([left(own), left(other)], [[at], pages(0)]);
    });
  }
}

test('3.6/4: a queue that does not take a block: nothing of it is flushed', t => {
  const { host, own, left, send } = planted(t);
  host.driver.breakBatch();
  t.deepEqual(send(pages(0).map(flushOf)), { result: -Errno.EIO, processed: BLOCK - 1 });
  t.deepEqual(left(own), pages(0));
  t.deepEqual(send(pages(0).map(flushOf)), { result: 0, processed: COUNT });
  t.deepEqual(left(own), []);
});

test('3.6/5: everything is everything of this VM', t => {
  const { own, other, left, send } = planted(t);
  t.deepEqual(send([smmuCommand({ opcode: SmmuOpcode.TLBI_NSNH_ALL })]), { result: 0, processed: 1 });
  t.deepEqual([left(own), left(other)], [[], pages(0)]);
});

test('3.6/4: the array itself: probe, type, lengths, pointer, number', t => {
  const { host, viommu, own, left } = planted(t);
  const { user } = host;
  const command = flushOf(0);
  const invalidate = (type: number, entries: readonly Uint8Array[], length?: number) =>
    user.invalidate(viommu, type, entries, length);
  t.deepEqual(invalidate(SmmuType.INVALIDATE_SMMUV3, []), { result: 0, processed: 0 });
  t.deepEqual(invalidate(0, []), { result: -Errno.EINVAL, processed: 0 });
  t.deepEqual(invalidate(0, [command]), { result: -Errno.EINVAL, processed: 0 });
  t.deepEqual(invalidate(SmmuType.INVALIDATE_SMMUV3, [command], 15), { result: -Errno.EINVAL, processed: 0 });
  t.deepEqual(invalidate(SmmuType.INVALIDATE_SMMUV3, [command], 1), { result: -Errno.EINVAL, processed: 0 });
  const longer = Uint8Array.from([...command, 1]);
  t.deepEqual(invalidate(SmmuType.INVALIDATE_SMMUV3, [longer], 17), { result: -Errno.E2BIG, processed: 0 });
  t.deepEqual(left(own), pages(0));
  longer[16] = 0;
  t.deepEqual(invalidate(SmmuType.INVALIDATE_SMMUV3, [longer], 17), { result: 0, processed: 1 });
  t.deepEqual(left(own), pages(1));
});

test('3.6/10: what a device keeps, by the guest’s StreamID: the wrong one is -EIO and flushes nothing', t => {
  const host = smmuHost(t);
  const { user, devices, driver } = host;
  const viommu = viommuOf(t, host);
  const [first, second] = devices;
  t.true(user.vdevice(viommu, first.id, 0x99) > 0);
  const entries = [first, second].map(({ requesterId }) => ({ sid: requesterId, ssid: 5, page: 3 }));
  const contexts = [first, second].map(({ requesterId }) => ({ sid: requesterId, ssid: 5 }));
  driver.caches.devices = [...entries];
  driver.caches.contexts = [...contexts];
  const send = (sid: number) =>
    user.invalidate(viommu, SmmuType.INVALIDATE_SMMUV3, [
      smmuCommand({ opcode: SmmuOpcode.CFGI_CD, sid, ssid: 5 }),
      smmuCommand({ opcode: SmmuOpcode.ATC_INV, sid, ssid: 5, address: 0x3000 }),
    ]);
  // The unit's own number means nothing to a guest.
  for (const sid of [0x98, first.requesterId, second.requesterId]) {
    t.deepEqual(send(sid), { result: -Errno.EIO, processed: 0 });
  }
  t.deepEqual([driver.caches.devices, driver.caches.contexts], [entries, contexts]);
  t.deepEqual(send(0x99), { result: 0, processed: 2 });
  t.deepEqual([driver.caches.devices, driver.caches.contexts], [[entries[1]!], [contexts[1]!]]);
});
