import fc from 'fast-check';
import test from 'ava';
import { arm, array, bytes, nested, s32, struct, tail, u16, u32, u64, u8, union, viewOf } from './index.js';

const Inner = struct('inner', 'test', 8, { kind: u8(0), length: u16(2), value: u32(4) });
const Outer = struct('outer', 'test', 48, {
  tag: u32(0),
  wide: u64(8),
  inner: nested(16, Inner),
  list: array(24, 3, u16),
  raw: bytes(32, 4),
  fd: s32(36),
});
const Choice = struct('choice', 'test', 16, {
  which: u8(0),
  body: union(8, 8, 'which', { 1: 'small', 2: 'large' }),
  small: arm('small', u16(8)),
  large: arm('large', u64(8)),
});

test('encodes values that were laid out by hand', t => {
  const encoded = Outer.encode({
    tag: 0x01020304,
    wide: 0x1122334455667788n,
    inner: { kind: 0xaa, length: 0xbbcc, value: 0xddeeff00 },
    list: [1, 2, 3],
    raw: Uint8Array.of(9, 8),
    fd: -1,
  });
  t.is(
    Buffer.from(encoded).toString('hex'),
    '04030201000000008877665544332211aa00ccbb00ffeedd01000200030000000908' + '0000ffffffff' + '0000000000000000',
  );
  t.deepEqual(Outer.decode(viewOf(encoded)), {
    tag: 0x01020304,
    wide: 0x1122334455667788n,
    inner: { kind: 0xaa, length: 0xbbcc, value: 0xddeeff00 },
    list: [1, 2, 3],
    raw: Uint8Array.of(9, 8, 0, 0),
    fd: -1,
  });
});

test('a nested structure may be given as its bytes, and reached through the outer one', t => {
  const inner = Inner.encode({ kind: 7, value: 0xffffffff });
  const view = viewOf(Outer.encode({ inner }));
  t.is(Outer.fields.inner.fields.kind.get(view), 7);
  t.is(Outer.fields.inner.fields.value.get(view), 0xffffffff);
  t.is(Inner.fields.kind.get(view, Outer.fields.inner.offset), 7);
});

test('elements of an array are found by their index', t => {
  const view = viewOf(Outer.encode({ list: [5, 6, 7] }));
  const { list } = Outer.fields;
  t.deepEqual(
    [0, 1, 2].map(index => list.element.get(view, list.start(index))),
    [5, 6, 7],
  );
  list.element.set(view, 9, list.start(1));
  t.deepEqual(Outer.decode(view).list, [5, 9, 7]);
});

test('a flexible array member takes no bytes and is indexed behind the structure', t => {
  const Bag = struct('bag', 'test', 8, { count: u32(0), items: tail(8, offset => nested(offset, Inner)) });
  const view = viewOf(new Uint8Array([...Bag.encode({ count: 2 }), ...Inner.encode({}), ...Inner.encode({ kind: 3 })]));
  const { items } = Bag.fields;
  t.is(items.element.fields.kind.get(view, items.start(1)), 3);
  t.deepEqual<unknown, unknown>(Bag.decode(view), { count: 2 });
  t.throws(() => Bag.encode({ items: [{}] } as never), { instanceOf: RangeError });
});

test('the discriminator tells which arm of a union is decoded; with none in use its bytes are', t => {
  t.deepEqual(Choice.decode(viewOf(Choice.encode({ which: 1, small: 0x1234 }))), { which: 1, small: 0x1234 });
  t.deepEqual(Choice.decode(viewOf(Choice.encode({ which: 2, large: 5 }))), { which: 2, large: 5 });
  t.deepEqual(Choice.decode(viewOf(Choice.encode({ which: 3, large: 5 }))), {
    which: 3,
    body: Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0),
  });
});

test('a byte that two fields claim is refused when the structure is declared', t => {
  t.throws(() => struct('s', '', 8, { a: u32(0), b: u16(2) }), {
    instanceOf: RangeError,
    message: 's.b: byte 2 belongs to a',
  });
  t.throws(() => struct('s', '', 8, { a: nested(0, Inner), b: u8(1) }), { message: 's.b: byte 1 belongs to a' });
});

test('fields of a union may overlap those of another arm, and nothing else', t => {
  const which = u32(0);
  const one = union(8, 8, 'which', { 1: 'x', 2: 'y' });
  t.notThrows(() => struct('s', '', 16, { which, one, a: arm('x', u32(8)), b: arm('y', u64(8)) }));
  t.throws(() => struct('s', '', 16, { which, one, a: arm('x', u32(8)), b: arm('x', u16(8)) }), {
    message: 's.b: byte 8 belongs to a',
  });
  t.throws(() => struct('s', '', 16, { which, one, a: u32(8) }), { message: 's.a: byte 8 belongs to one' });
  t.throws(() => struct('s', '', 16, { which, one, a: arm('x', u32(4)) }), { message: 's.a: outside its union' });
  t.throws(() => struct('s', '', 16, { which, one, a: arm('z', u32(8)) }), { message: 's.a: no union has an arm z' });
  t.throws(() => struct('s', '', 16, { one }), { message: 's.one: no integer field which selects its arms' });
});

test('a field outside its structure is refused', t => {
  t.throws(() => struct('s', '', 8, { a: u64(4) }), { message: 's.a: bytes 4 to 12 are outside the structure' });
  t.throws(() => struct('s', '', 8, { a: u8(-1) }), { instanceOf: RangeError });
});

test('what no field claims is padding, inside nested structures too', t => {
  t.deepEqual(Inner.padding, [[1, 2]]);
  t.deepEqual(Outer.padding, [
    [4, 8],
    [17, 18],
    [30, 32],
    [40, 48],
  ]);
  t.deepEqual(Choice.padding, [[1, 8]]);
  const view = viewOf(new Uint8Array([0xff, ...Outer.encode({ tag: 1, fd: -1 })]));
  t.false(Outer.hasPadding(view, 1));
  view.setUint8(1 + 17, 1);
  t.true(Outer.hasPadding(view, 1));
});

test('a value that does not fit is refused and named', t => {
  const cases: [Parameters<typeof Outer.encode>[0], RegExp][] = [
    [{ tag: 2 ** 32 }, /^outer\.tag: 4294967296 does not fit in 4 bytes$/],
    [{ tag: -1 }, /outer\.tag/],
    [{ tag: 1.5 }, /outer\.tag/],
    [{ fd: 2 ** 31 }, /outer\.fd/],
    [{ wide: 2n ** 64n }, /not a 64-bit value/],
    [{ wide: -1 }, /not a 64-bit value/],
    [{ inner: { kind: 256 } }, /^outer\.inner\.kind: 256/],
    [{ inner: new Uint8Array(9) }, /^outer\.inner: 9 bytes, it has 8$/],
    [{ list: [1, 2, 3, 4] }, /^outer\.list: 4 elements, it has 3$/],
    [{ list: [1, 65536] }, /^outer\.list\[1\]: 65536/],
    [{ raw: new Uint8Array(5) }, /^outer\.raw: 5 bytes, it has 4$/],
    [{ nothing: 1 } as never, /^outer has no field nothing$/],
    [{ constructor: 1 } as never, /^outer has no field constructor$/],
    [{ inner: 5 } as never, /^outer\.inner: 5 is not/],
  ];
  for (const [values, message] of cases) t.throws(() => Outer.encode(values), { instanceOf: RangeError, message });
});

test('a setter keeps the low bits and leaves its neighbours alone', t => {
  const data = new Uint8Array(8).fill(0x55);
  const view = viewOf(data);
  Inner.fields.length.set(view, 0x1_2345);
  t.is(Buffer.from(data).toString('hex'), '5555452355555555');
  Inner.fields.value.set(view, -1);
  t.is(Inner.fields.value.get(view), 0xffffffff);
});

test('viewOf sees the bytes of a subarray only', t => {
  const whole = new Uint8Array(32);
  Inner.fields.kind.set(viewOf(whole.subarray(8, 16)), 6);
  t.is(whole[8], 6);
  t.is(viewOf(whole.subarray(8, 16)).byteLength, 8);
});

test('format shows what is not zero', t => {
  t.is(
    Outer.format(viewOf(Outer.encode({ tag: 9, wide: 0x1000, inner: { length: 10 }, list: [0, 1], fd: -1 }))),
    'tag=9 wide=0x1000 inner={length=0xa} list=[0 1 0] fd=-1',
  );
  t.is(Outer.format(viewOf(new Uint8Array(48))), '');
});

test('any value survives encode and decode', t => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.nat(0xffffffff), fc.integer(), (wide, tag, fd) => {
      const view = viewOf(Outer.encode({ wide, tag, fd }));
      const seen = Outer.decode(view);
      return BigInt(seen.wide) === wide && seen.tag === tag && seen.fd === fd && Outer.fields.wide.big(view) === wide;
    }),
    { seed: 1 },
  );
  t.pass();
});
