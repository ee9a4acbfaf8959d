// What the format has no words for ends a recording, and everybody says so.
import test from 'ava';
import { Fault, Reg } from '@hw/intel-iommu/spec';
import { TxAttrs, VirtualClock } from '@remora/core';
import { replayFile } from '@remora/tools';
import { DEVICE, MESSAGE, ordinary, RecordedGuest, type RecordedGuestOptions } from './recorded-guest.js';

const clock = new VirtualClock();

/** What cannot be replayed: the recording says where it ends, and the reader refuses it. */
const UNKNOWN: Readonly<Record<string, { options?: RecordedGuestOptions; act: (guest: RecordedGuest) => void }>> = {
  'a device did not complete an invalidation in time': {
    options: {
      unit: { 'device-iotlb': true },
      environment: { clock, endpoint: () => ({ invalidate: () => false, pageResponse: () => undefined }) },
    },
    act: guest => {
      invalidateDeviceTlb(guest);
      clock.step(60_000_000_000);
    },
  },
  'a state was loaded': {
    act: ({ unit }) => unit.load({} as never),
  },
  'a function was to be told something that is not there': {
    options: { unit: { 'device-iotlb': true }, environment: { endpoint: () => undefined } },
    act: invalidateDeviceTlb,
  },
};

function invalidateDeviceTlb(guest: RecordedGuest): void {
  const driver = guest.drive();
  driver.start();
  try {
    driver.deviceTlbInvalidate(DEVICE);
  } catch {
    // Nobody waits that long.
  }
}

for (const [problem, { options, act }] of Object.entries(UNKNOWN)) {
  test(`a recording ends where it could not be replayed: ${problem}`, async t => {
    const guest = await RecordedGuest.start(t, options);
    guest.request(0x1000);
    try {
      act(guest);
    } catch {
      // The call is not a whole one.
    }
    guest.request(0x1000);
    t.is(guest.recorder.problem, problem);
    const lines = guest.finish();
    t.is(lines.filter(line => line.startsWith('T ')).length, 1);
    t.is(lines.at(-1), '# truncated');
    await t.throwsAsync(replayFile(guest.path), { message: /the recording was cut off/ });
  });
}

test('an operation within another one, which is no read of registers, cannot be replayed', async t => {
  const attrs = new TxAttrs();
  let handler = (): void => undefined;
  const guest = await RecordedGuest.start(t, {
    environment: { sendMsi: () => handler() },
  });
  handler = () => guest.unit.mmio.write(Reg.FSTS, 0, 4, attrs);
  const driver = guest.drive();
  driver.start(MESSAGE);
  t.is(guest.recorder.problem, undefined);
  t.is(guest.request(0x1000), Fault.LRT_2);
  t.is(guest.recorder.problem, 'an operation came during another one');
  t.false(guest.finish().some(line => line.startsWith('TF ')));
});

test('a recording has one unit', async t => {
  const guest = await RecordedGuest.start(t);
  t.throws(
    () =>
      guest.recorder.units(ordinary)(guest.unit.config, { name: 'b', memory: guest.memory, sendMsi: () => undefined }),
    {
      message: 'a recording has one unit',
    },
  );
});
