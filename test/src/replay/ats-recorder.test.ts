// What devices with a TLB and hosts say to a unit, and are told, is written down so that it can be replayed.
import test, { type ExecutionContext } from 'ava';
import { pasidDeviceTlbDescriptor } from '@hw/intel-iommu/driver';
import { Fault, Granularity, Reg, VCMD_3_3 } from '@hw/intel-iommu/spec';
import { Access, Errno, TxAttrs } from '@remora/core';
import { AtsStatus, PageResponse } from '@remora/iommu';
import { replayFile, type ReplayResult } from '@remora/tools';
import { textFile } from './altered-recording.js';
import { ABSENT, Device, guestWith, MAPPED, PASID, STRANGER, UNIT } from './ats-guest.js';
import { DEVICE } from './recorded-guest.js';

const { READ, WRITE } = Access;

async function agrees(t: ExecutionContext, path: string): Promise<ReplayResult['comparedByKind']> {
  const { differences, comparedByKind } = await replayFile(path);
  t.deepEqual(differences, []);
  return comparedByKind;
}

/** From the first line on that begins so. */
function from(lines: readonly string[], start: string): readonly string[] {
  return lines.slice(lines.findIndex(line => line.startsWith(start)));
}

test('a device asks for a translation, is refused a page, requests it, and has it before it comes back from the response', async t => {
  const device = new Device();
  const { guest, driver } = await guestWith(t, device);
  t.is(device.ask(MAPPED, READ), AtsStatus.OK);
  t.is(device.go(READ), AtsStatus.OK);
  t.is(device.ask(ABSENT, WRITE), AtsStatus.OK);
  t.true(device.want(ABSENT));
  driver.pageRequests.handle();
  t.deepEqual(device.answers, [PageResponse.SUCCESS]);
  const lines = guest.finish();
  const happened = from(lines, 'A ').filter(line => !/^ *(MR|MW|R|W) /.test(line));
  t.deepEqual(happened, [
    'A 00:03.0 1 100000 r -> 3010000 fff r',
    'D 00:03.0 1 3010000 r',
    'A 00:03.0 1 200000 w -> 200000 fff -',
    'P 00:03.0 1 200000 w 5 last',
    ' IRQ fee01000 4041',
    ' PR 00:03.0 1 5 0',
    '  A 00:03.0 1 200000 w -> 3020000 fff rw',
    '  D 00:03.0 1 3020000 w',
    '# end',
  ]);
  t.like(await agrees(t, guest.path), { A: 3, D: 2, P: 1, PR: 1, IRQ: 1 });
});

test('what a unit refuses a device: with the statuses, and the faults', async t => {
  const device = new Device();
  const { guest } = await guestWith(t, device);
  t.not(device.ask(MAPPED, READ, STRANGER), AtsStatus.OK);
  t.not(device.go(READ, STRANGER), AtsStatus.OK);
  t.false(device.want(ABSENT, STRANGER));
  const lines = guest.finish();
  t.deepEqual(
    lines.filter(line => /^(AF|DF|PF) /.test(line)),
    ['AF 00:04.0 1 100000 r -> ca', 'DF 00:04.0 1 100000 r -> ca', 'PF 00:04.0 1 200000 w 5 last'],
  );
  t.like(await agrees(t, guest.path), { AF: 1, DF: 1, PF: 1, F: 3 });
});

for (const [at, answer] of [
  ['once', 'done'],
  ['within the call', 'done'],
  ['later', 'later 1'],
] as const) {
  test(`an invalidation that a device has done ${at === 'once' ? 'at once' : at}`, async t => {
    const device = new Device();
    device.at = at;
    const { guest, driver } = await guestWith(t, device);
    t.is(driver.queue.submit(pasidDeviceTlbDescriptor(DEVICE, PASID, 0, MAPPED, 12, true)), 0);
    const lines = guest.finish();
    t.true(lines.includes(` N 00:03.0 1 100000 fff devtlb all ${answer}`));
    const completions = lines.filter(line => line.startsWith('C '));
    t.deepEqual(completions, at === 'later' ? ['C 1'] : []);
    // The wait after it is done only then.
    if (at === 'later') t.regex(lines[lines.indexOf('C 1') + 1]!, /^ M[RW] /);
    t.like(await agrees(t, guest.path), { N: 1, ...(at === 'later' ? { C: 1 } : {}) });
  });
}

test('a device that does to the registers what only software does, while it has its answer, ends the recording', async t => {
  const attrs = new TxAttrs();
  for (const act of ['read', 'write'] as const) {
    const device = new Device();
    const { guest, driver } = await guestWith(t, device);
    device.pageResponse = () => {
      if (act === 'read') guest.unit.mmio.read(Reg.FSTS, 4, attrs);
      else guest.unit.mmio.write(Reg.FSTS, 0, 4, attrs);
    };
    device.want(ABSENT);
    t.is(guest.recorder.problem, undefined);
    driver.pageRequests.handle();
    t.is(guest.recorder.problem, 'an operation came during another one');
    guest.finish();
    await t.throwsAsync(replayFile(guest.path), { message: /the recording was cut off/ });
  }
});

test('hosts: what they are told, what they refuse, their faults, and whom they answer', async t => {
  const device = new Device();
  let errno = 0;
  const { guest, driver } = await guestWith(t, device, {
    lent: true,
    unit: { ...UNIT, 'caching-mode': true, 'x-scalable-mode': 'modern' },
    environment: {
      propagation: {
        pasidCacheInvalidate: () => 0,
        iotlbInvalidate: () => -errno,
        settle: () => -1,
        pageResponse: () => 0,
        virtualCommand: opcode => (opcode === 1 ? { status: 'ok', result: 0x77 } : { status: 'no-pasid', result: 0 }),
      },
    },
  });
  errno = Errno.EIO;
  t.true(driver.iotlbInvalidate(Granularity.GLOBAL) < 0);
  errno = 0;
  device.want(ABSENT);
  driver.pageRequests.handle();
  t.deepEqual(device.answers, [], 'the host has taken it');
  const fault = { pasid: PASID, hi: 0, lo: ABSENT, access: WRITE, addressType: 0, reason: Fault.SFS_2 } as const;
  t.is(guest.unit.hostFault(DEVICE, fault), Fault.SFS_2);
  for (const command of [1, 2]) guest.unit.mmio.write64!(VCMD_3_3.VCMD, 0, command, new TxAttrs());
  const lines = guest.finish();
  for (const each of [
    ' H reset',
    ' H iotlbInvalidate 1 0 0 0 0 0 -> 5',
    ' PR 00:03.0 1 5 0 host 0',
    'HF 00:03.0 1 200000 w 0 71 -> 71',
    ' VC 1 0 -> ok 77',
    ' VC 2 0 -> no-pasid 0',
  ])
    t.true(lines.includes(each), each);
  t.like(await agrees(t, guest.path), { HF: 1, VC: 2, PR: 1 });
  for (const [find, falsified] of [
    [' VC 1 0 -> ok 77', ' VC 2 0 -> ok 77'],
    [' H iotlbInvalidate 1 0 0 0 0 0 -> 5', ' H iotlbInvalidate 2 0 0 0 0 0 -> 5'],
    ['HF 00:03.0 1 200000 w 0 71 -> 71', 'HF 00:03.0 1 200000 w 0 71 -> 0'],
  ] as const) {
    const at = lines.indexOf(find);
    const { differences } = await replayFile(await textFile(t, lines.with(at, falsified)));
    t.is(differences[0]?.line, at + 1, falsified);
  }
});
