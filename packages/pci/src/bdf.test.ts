import test from 'ava';
import { ConfigError } from '@remora/core';
import { devfnOf, formatBdf, formatDevfn, parseBdf } from './bdf.js';

test('addresses are read as people write them', t => {
  t.deepEqual(parseBdf('at', '0000:3f:00.1'), { segment: 0, bus: 0x3f, devfn: 1 });
  t.deepEqual(parseBdf('at', '1:3F:1f.7'), { segment: 1, bus: 0x3f, devfn: 0xff });
  t.deepEqual(parseBdf('at', '00:03.0'), { segment: 0, bus: 0, devfn: 0x18 });
  t.deepEqual(parseBdf('at', '3'), { segment: 0, bus: undefined, devfn: 0x18 });
});

test('what is no address is refused with its path', t => {
  for (const text of ['', '20.0', '00:03.8', '3f:00.0.1', 'x', '00:100.0']) {
    t.throws(
      () => parseBdf('devices[1].host', text),
      { instanceOf: ConfigError, message: /^devices\[1\]\.host: / },
      text,
    );
  }
});

test('and written back', t => {
  t.is(formatBdf(0x3f, devfnOf(0x1f, 7)), '0000:3f:1f.7');
  t.is(formatDevfn(devfnOf(3)), '03.0');
});
