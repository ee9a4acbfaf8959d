/** A guest whose device has a TLB and requests pages, and a unit that is recorded. */
import type { ExecutionContext } from 'ava';
import { firstStagePasid, pasidDeviceTlbDescriptor, type VtdDriver } from '@hw/intel-iommu/driver';
import { Access } from '@remora/core';
import { AtsCompletion, type AtsEndpoint, AtsStatus, PageResponse } from '@remora/iommu';
import { DEVICE, MESSAGE, RecordedGuest, type RecordedGuestOptions } from './recorded-guest.js';

export const PASID = 1;
const DOMAIN = 7;
/** 00:04.0, to which software gives nothing. */
export const STRANGER = 0x20;
const { READ, WRITE, READ_WRITE } = Access;
export const UNIT = { nesting: true, 'x-smpwcs': true, 'device-iotlb': true, svm: true } as const;
export const MAPPED = 0x10_0000;
export const ABSENT = 0x20_0000;

/** A device that goes on at once when it has its page, and says when it has done an invalidation when it is asked. */
export class Device implements AtsEndpoint {
  at: 'once' | 'within the call' | 'later' = 'once';
  unit: RecordedGuest['unit'] | undefined;
  readonly owed: (() => void)[] = [];
  readonly answers: number[] = [];
  readonly #out = new AtsCompletion();

  invalidate(_pasid: number, _global: boolean, _hi: number, _lo: number, _shift: number, completed: () => void) {
    if (this.at === 'later') this.owed.push(completed);
    if (this.at === 'within the call') completed();
    return this.at === 'once';
  }

  pageResponse(_pasid: number, _group: number, code: number): void {
    this.answers.push(code);
    if (code === PageResponse.SUCCESS && this.ask(ABSENT, WRITE) === AtsStatus.OK) this.go(WRITE);
  }

  ask(address: number, access: number, requesterId = DEVICE): AtsStatus {
    return this.unit!.translationRequest(requesterId, PASID, 0, address, access, this.#out);
  }

  /** To where the last answer leads. */
  go(access: number, requesterId = DEVICE): AtsStatus {
    return this.unit!.translatedRequest(requesterId, PASID, this.#out.hi, this.#out.lo, access);
  }

  want(address: number, requesterId = DEVICE): boolean {
    return this.unit!.pageRequest({
      requesterId,
      pasid: PASID,
      hi: 0,
      lo: address,
      access: WRITE,
      group: 5,
      last: true,
    });
  }
}

/** A guest whose device has a page, and can have another. */
export async function guestWith(
  t: ExecutionContext,
  device: Device,
  more: RecordedGuestOptions = {},
): Promise<{ guest: RecordedGuest; driver: VtdDriver }> {
  const environment = { endpoint: () => device, ...more.environment };
  const guest = await RecordedGuest.start(t, { unit: UNIT, driver: { mode: 'scalable' }, ...more, environment });
  device.unit = guest.unit;
  const read32 = guest.registers.read32.bind(guest.registers);
  guest.registers.read32 = at => {
    for (const completed of device.owed.splice(0)) completed();
    return read32(at);
  };
  const driver = guest.drive();
  const table = guest.table('first', false);
  driver.start(MESSAGE, () => driver.attach(DEVICE, { dte: 1, paside: 1, pre: 1 }));
  driver.enablePageRequests(
    {
      handler: ({ lo }) => {
        table.map(lo >>> 12, 0x3020, 1, READ_WRITE);
        return PageResponse.SUCCESS;
      },
    },
    MESSAGE,
  );
  table.map(MAPPED / 0x1000, 0x3010, 1, READ_WRITE);
  t.is(driver.addPasid(DEVICE, PASID, firstStagePasid(table, DOMAIN, { pwsnp: 1 })), 0);
  return { guest, driver };
}

/** A recording in which a device does all of it. */
export async function everything(t: ExecutionContext): Promise<string[]> {
  const device = new Device();
  const { guest, driver } = await guestWith(t, device);
  device.ask(MAPPED, READ);
  device.go(READ);
  device.ask(MAPPED, READ, STRANGER);
  device.want(ABSENT);
  driver.pageRequests.handle();
  device.at = 'later';
  driver.queue.submit(pasidDeviceTlbDescriptor(DEVICE, PASID, 0, MAPPED, 12, true));
  return guest.finish();
}
