/**
 * Whatever devices ask and whatever a program does with the descriptors: each group of requests is answered once, with what the program said if it could
 * say something, and nothing is left. Beside it a naive model: what is outstanding, by who asked.
 */
import test from 'ava';
import { Random } from '@remora/bits';
import { Access, NO_PASID } from '@remora/core';
import { PageResponse } from '@remora/iommu';
import { IommuHwptAllocFlag, IommuHwptPageResponse, IommuHwptPgfault, viewOf } from '@remora/uapi';
import { smmuHost } from './smmu-host.test.helper.js';

const ROUNDS = 6;
const STEPS = 1500;
const PASIDS = [NO_PASID, 5, 6] as const;
const GROUPS = 4;
const FAULT = IommuHwptPgfault.size;
const RESPONSE = IommuHwptPageResponse.size;

/** Names a group of a device: every request carries its number in its address, so that answers can be told apart. */
let serial = 0;

for (let round = 0; round < ROUNDS; round++) {
  test(`random requests, reads, answers, attachments: seed ${round + 1}`, t => {
    const random = new Random(round + 1);
    const pick = <T>(from: readonly T[]): T => from[random.below(from.length)]!;
    const { user, devices, driver, ioas, vmm, bench } = smmuHost(t);
    /** Groups that were read, by cookie. */
    const cookies = new Map<number, number>();
    /** Complete groups without an answer, by serial. */
    const outstanding = new Set<number>();
    /** Answers that the program gave, by serial. */
    const said = new Map<number, number>();
    let answered = 0;
    let refused = 0;
    let saidCount = 0;
    const check = (): void => {
      for (const { request, code } of driver.responses.splice(0)) {
        for (const [cookie, number] of cookies) if (number === request.hi) cookies.delete(cookie);
        t.true(outstanding.delete(request.hi), `group ${request.hi} is answered, and only once`);
        const word = said.get(request.hi);
        if (word === undefined) t.is(code, PageResponse.INVALID_REQUEST, 'nobody said anything');
        else t.is(code, word);
        if (word === undefined) refused++;
        else saidCount++;
        answered++;
      }
    };
    let queue = user.faultQueue();
    const tables: number[] = [];
    const makeTable = (): void => {
      const flags = IommuHwptAllocFlag.PASID;
      const table = user.hwpt(devices[0].id, ioas, random.below(6) === 0 ? { flags } : { flags, faultId: queue.id });
      if (table > 0) tables.push(table);
    };
    for (let index = 0; index < 4; index++) makeTable();
    const attachAll = (to: readonly number[]): void => {
      for (const { fd } of devices) for (const pasid of [undefined, 5, 6]) user.attach(fd, pick(to), pasid);
    };
    attachAll(tables);
    const request = (): void => {
      const device = pick(devices);
      const last = random.below(3) > 0;
      const number = ++serial;
      if (last) outstanding.add(number);
      driver.requestPage({
        requesterId: random.below(20) === 0 ? 0x4242 : device.requesterId,
        pasid: pick(PASIDS),
        hi: number,
        lo: 0,
        access: Access.READ,
        group: random.below(GROUPS),
        last,
      });
      if (random.below(3) > 0) bench.pagesRequested();
    };
    const read = (): void => {
      const bytes = user.read(queue.fd, random.below(10) === 0 ? random.below(4 * FAULT) : random.below(6) * FAULT);
      if (typeof bytes === 'number') return;
      t.is(bytes.length % FAULT, 0);
      let before = 0;
      for (let at = 0; at < bytes.length; at += FAULT) {
        const { cookie, flags, addr } = IommuHwptPgfault.decode(viewOf(bytes), at);
        t.true(before === 0 || before === cookie, 'a group stands in one piece');
        before = cookie;
        if ((flags & 2) === 0) continue;
        cookies.set(cookie, Number(addr) / 2 ** 32);
        before = 0;
      }
      t.is(before, 0, 'and ends there');
    };
    const write = (): void => {
      const answers = Array.from({ length: random.below(4) }, () => ({
        cookie: pick([random.below(8), ...cookies.keys()]),
        code: random.below(3),
      }));
      const bytes = Uint8Array.from(answers.flatMap(each => [...IommuHwptPageResponse.encode(each)]));
      // What the program says counts if it is the first to say it, and the write takes it.
      const told: [number, number][] = [];
      for (const { cookie, code } of answers) {
        const number = cookies.get(cookie);
        if (number === undefined || !outstanding.has(number) || said.has(number) || code > 1) break;
        said.set(number, code);
        told.push([number, code]);
      }
      const result = user.syscalls.write(queue.fd, bytes);
      t.is(result < 0 ? 0 : result / RESPONSE, told.length);
      check();
    };
    const acts: (() => void)[] = [
      request,
      request,
      request,
      request,
      read,
      read,
      write,
      write,
      () => void (random.below(4) === 0 && user.attach(pick(devices).fd, pick(tables), pick([undefined, 5, 6]))),
      () => void (random.below(30) === 0 && user.detach(pick(devices).fd, pick([undefined, 5, 6]))),
      () => {
        if (random.below(40) > 0) return;
        user.syscalls.close(queue.fd);
        check();
        cookies.clear();
        queue = user.faultQueue();
        for (let index = 0; index < 2; index++) makeTable();
        // Behind the old page tables nobody answers any more.
        attachAll(tables.slice(-2));
      },
      () => {
        if (random.below(10) === 0 && tables.length > 3) {
          const at = random.below(tables.length);
          if (user.destroy(tables[at]!) === 0) tables.splice(at, 1);
        }
      },
    ];
    for (let step = 0; step < STEPS; step++) {
      pick(acts)();
      check();
    }
    bench.pagesRequested();
    vmm[Symbol.dispose]();
    check();
    t.deepEqual([...outstanding], []);
    t.true(answered > 200, `${answered}`);
    t.true(saidCount > 50 && refused > 50, `${saidCount} by the program, ${refused} by the kernel`);
    t.is(driver.domains.size, 0);
  });
}
