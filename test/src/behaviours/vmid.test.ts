import test from 'ava';
import type { HostProcess } from '@remora/host-sim';
import { lendingHost } from '@remora/machines';
import { vmidBehaviours } from './vmid.js';

for (const { number, title, run } of vmidBehaviours) {
  test(`behaviour ${number}: ${title}`, t => {
    using host = lendingHost({ memory: 16 * 0x10_0000, kernel: { uapi: 'vmid-rfc-v2' } });
    const { platform } = host;
    const before = platform.dump();
    const started: HostProcess[] = [];
    t.notThrows(() =>
      run(platform, name => {
        const process = platform.process(name);
        started.push(process);
        return process;
      }),
    );
    for (const process of started) process[Symbol.dispose]();
    t.deepEqual(platform.dump(), before);
  });
}

test('every row from 69 to 75 is there, once', t => {
  t.deepEqual(
    vmidBehaviours.map(({ number }) => number),
    [69, 70, 71, 72, 73, 74, 75],
  );
});
