import test from 'ava';
import { ConfigError } from './errors.js';
import {
  bdf,
  bool,
  choice,
  didYouMean,
  integer,
  parseDeviceString,
  properties,
  required,
  size,
  slot,
  string,
} from './properties.js';
import type { Values } from './properties.js';

const declared = {
  'caching-mode': bool(false, 'guest maps are announced by invalidations'),
  'x-scalable-mode': choice(['off', 'on', 'legacy', 'modern'], 'off', 'scalable mode'),
  'aw-bits': integer({ oneOf: [39, 48, 57] }, 48, 'address width'),
  vectors: integer({ min: 1, max: 64 }, undefined, 'MSI vectors'),
  memory: size({ min: 2 ** 20, max: 2 ** 40, multipleOf: 4096 }, 2 ** 29, 'RAM'),
  path: string(undefined, 'a file'),
};
const schema = properties(declared, { cm: 'caching-mode', 'scalable-mode': 'x-scalable-mode' });
const parse = (input: Record<string, unknown>): Values<typeof declared> => schema.parse('intel-iommu', input);

/** The message of the ConfigError that `input` causes. */
function problem(input: Record<string, unknown>): string {
  try {
    parse(input);
  } catch (failure) {
    if (failure instanceof ConfigError) return failure.message;
    throw failure;
  }
  return 'accepted';
}

test('defaults', t => {
  t.deepEqual(parse({}), {
    'caching-mode': false,
    'x-scalable-mode': 'off',
    'aw-bits': 48,
    vectors: undefined,
    memory: 2 ** 29,
    path: undefined,
  });
});

test('text and typed values parse to the same', t => {
  const expected = {
    'caching-mode': true,
    'x-scalable-mode': 'modern',
    'aw-bits': 57,
    vectors: 16,
    memory: 2 ** 30,
    path: 'x',
  } as const;
  const text = {
    'caching-mode': 'on',
    'x-scalable-mode': 'modern',
    'aw-bits': '57',
    vectors: '0x10',
    memory: '1G',
    path: 'x',
  };
  t.deepEqual(parse(text), expected);
  t.deepEqual(parse(expected), expected);
});

test('on and off have the spellings that QEMU knows', t => {
  for (const word of ['on', 'yes', 'true', 'y']) t.true(parse({ 'caching-mode': word })['caching-mode'], word);
  for (const word of ['off', 'no', 'false', 'n']) t.false(parse({ 'caching-mode': word })['caching-mode'], word);
  t.is(parse({ 'x-scalable-mode': 'yes' })['x-scalable-mode'], 'on');
  t.is(parse({ 'x-scalable-mode': false })['x-scalable-mode'], 'off');
});

test('names may be aliases or in camel case; undefined is not given', t => {
  t.true(parse({ cm: 'on' })['caching-mode']);
  t.true(parse({ cachingMode: true })['caching-mode']);
  t.is(parse({ scalableMode: 'legacy' })['x-scalable-mode'], 'legacy');
  t.is(parse({ awBits: undefined })['aw-bits'], 48);
});

test('a wrong value is named, with what was expected', t => {
  t.is(problem({ 'aw-bits': '47' }), 'intel-iommu.aw-bits: "47" is not one of 39, 48, 57');
  t.is(problem({ 'aw-bits': 'wide' }), 'intel-iommu.aw-bits: "wide" is not one of 39, 48, 57');
  t.is(problem({ awBits: 47 }), 'intel-iommu.awBits: "47" is not one of 39, 48, 57', 'as it was written');
  t.is(problem({ 'caching-mode': 'maybe' }), 'intel-iommu.caching-mode: "maybe" is not on or off');
  t.is(problem({ 'caching-mode': 1 }), 'intel-iommu.caching-mode: "1" is not on or off');
  t.is(
    problem({ 'x-scalable-mode': 'moder' }),
    'intel-iommu.x-scalable-mode: "moder" is not one of off, on, legacy, modern',
  );
  t.is(problem({ vectors: '65' }), 'intel-iommu.vectors: "65" is not a whole number from 1 to 64');
  t.is(problem({ vectors: '1.5' }), 'intel-iommu.vectors: "1.5" is not a whole number from 1 to 64');
  t.is(problem({ vectors: '' }), 'intel-iommu.vectors: "" is not a whole number from 1 to 64');
  t.is(problem({ path: { a: 1 } }), 'intel-iommu.path: {"a":1} is not text');
});

test('sizes', t => {
  t.is(parse({ memory: '1.5G' }).memory, 1.5 * 2 ** 30);
  t.is(parse({ memory: '2048k' }).memory, 2 ** 21);
  t.is(parse({ memory: '1048576' }).memory, 2 ** 20);
  t.is(parse({ memory: '0x200000' }).memory, 2 ** 21);
  t.is(parse({ memory: '1T' }).memory, 2 ** 40);
  t.is(problem({ memory: '12Q' }), 'intel-iommu.memory: "12Q" is not a size, as 4096, 512M or 1.5G');
  t.is(problem({ memory: -1 }), 'intel-iommu.memory: "-1" is not a size, as 4096, 512M or 1.5G');
  t.is(problem({ memory: '512K' }), 'intel-iommu.memory: "512K" is less than 1M');
  t.is(problem({ memory: '2T' }), 'intel-iommu.memory: "2T" is more than 1T');
  t.is(problem({ memory: 2 ** 20 + 1 }), 'intel-iommu.memory: "1048577" is not a multiple of 4K');
});

test('an unknown property: what may have been meant', t => {
  t.is(problem({ 'cache-mode': 'on' }), 'intel-iommu.cache-mode: unknown property; did you mean "caching-mode"?');
  t.is(problem({ 'x-aw-bits': '48' }), 'intel-iommu.x-aw-bits: unknown property; did you mean "aw-bits"?');
  t.is(problem({ 'nocaching-mode': 'on' }), 'intel-iommu.nocaching-mode: unknown property; write "caching-mode=off"');
  t.is(
    problem({ elephant: 'on' }),
    'intel-iommu.elephant: unknown property; known: aw-bits, caching-mode, cm, memory, path, scalable-mode, vectors, x-scalable-mode',
  );
  t.is(problem({ __proto__: null, constructor: 'on' }).slice(0, 41), 'intel-iommu.constructor: unknown property');
});

test('a property that is given by two names', t => {
  t.is(
    problem({ cm: 'on', 'caching-mode': 'off' }),
    'intel-iommu.caching-mode: given twice: "cm" is the same property',
  );
});

test('a required property', t => {
  const host = properties({ host: required(bdf(undefined, 'the device to assign')) });
  t.is(host.parse('vfio-pci', { host: '3f:00.0' }).host satisfies string, '0000:3f:00.0');
  t.throws(() => host.parse('vfio-pci', {}), {
    instanceOf: ConfigError,
    message: 'vfio-pci.host: must be given ([dddd:]bb:dd.f): the device to assign',
  });
});

test('PCI addresses and slots', t => {
  const place = properties({ host: bdf(undefined, 'host'), addr: slot(undefined, 'slot') });
  t.deepEqual(place.parse('x', { host: 'ABCD:3F:1f.7', addr: '1f.2' }), { host: 'abcd:3f:1f.7', addr: 0xfa });
  t.is(place.parse('x', { host: '1:2.0' }).host, '0000:01:02.0');
  t.is(place.parse('x', { addr: '3' }).addr, 0x18);
  t.is(place.parse('x', { addr: 0x18 }).addr, 0x18);
  for (const wrong of ['3f:20.0', '3f:00.8', '3f', 'g0:00.0', 5]) {
    t.throws(() => place.parse('x', { host: wrong }), { message: /is not a PCI address, as 0000:3f:00.0 or 3f:00.0/ });
  }
  for (const wrong of ['20', '3.8', '', 256])
    t.throws(() => place.parse('x', { addr: wrong }), { message: /is not a slot/ });
});

test('text of a form', t => {
  const named = properties({ id: string('x', 'id', { pattern: /^[a-z]+$/, expected: 'an id (a to z)' }) });
  t.is(named.parse('d', { id: 'abc' }).id, 'abc');
  t.throws(() => named.parse('d', { id: 'A' }), { message: 'd.id: "A" is not an id (a to z)' });
});

test('help lists what there is', t => {
  t.deepEqual(schema.help()[0], {
    name: 'caching-mode',
    type: 'on|off',
    fallback: false,
    required: false,
    doc: 'guest maps are announced by invalidations',
    aliases: ['cm'],
  });
  t.deepEqual(
    schema.help().map(({ type }) => type),
    ['on|off', 'off|on|legacy|modern', '39|48|57', 'integer', 'size', 'text'],
  );
  t.true(schema.has('cm') && schema.has('cachingMode') && !schema.has('constructor'));
});

test('contradictory declarations are refused', t => {
  t.throws(() => properties({ a: bool(false, ''), b: bool(false, '') }, { a: 'b' }), {
    message: /two properties are called a/,
  });
  t.throws(() => properties({ 'a-b': bool(false, ''), aB: bool(false, '') }), {
    message: /two properties are called aB/,
  });
  const wrong: Record<string, string> = { c: 'd' };
  t.throws(() => properties({ a: bool(false, '') }, wrong as Record<string, 'a'>), { message: /alias of d/ });
});

test('near names', t => {
  t.is(didYouMean('intel_iommu', ['intel-iommu', 'vfio-pci']), '; did you mean "intel-iommu"?');
  t.is(didYouMean('vfio', ['intel-iommu', 'vfio-pci']), '; known: intel-iommu, vfio-pci');
  t.is(didYouMean('anything', []), '');
});

test('a device string', t => {
  t.deepEqual(parseDeviceString('intel-iommu,caching-mode=on,id=x'), {
    driver: 'intel-iommu',
    options: { 'caching-mode': 'on', id: 'x' },
  });
  t.deepEqual(parseDeviceString('edu'), { driver: 'edu', options: {} });
  t.deepEqual(parseDeviceString('id=x,driver=edu'), { driver: 'edu', options: { id: 'x' } });
});

test('a pair of commas is a comma of the value; an equals sign is part of it', t => {
  t.deepEqual(parseDeviceString('disk,file=a,,b=c,,,id=x').options, { file: 'a,b=c,', id: 'x' });
});

test('a bare option is on; the last value counts; a value may be empty', t => {
  t.deepEqual(parseDeviceString('iommu,pt,aw-bits=39,aw-bits=48,id=').options, { pt: 'on', 'aw-bits': '48', id: '' });
});

test('a device string that names no driver, or an option without a name', t => {
  const names = {
    instanceOf: ConfigError,
    message: /^-device: "id=x" names no driver, expected driver,property=value/,
  };
  t.throws(() => parseDeviceString('id=x'), names);
  for (const text of ['', 'edu,', 'edu,=3', ',id=x']) {
    t.throws(
      () => parseDeviceString(text, 'devices[2]'),
      { message: /^devices\[2\]: .* has an option without a name/ },
      text,
    );
  }
});
