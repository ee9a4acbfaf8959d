import test from 'ava';
import { ConfigError, errnoName } from './errors.js';

test('a ConfigError names its path', t => {
  const cause = new Error('underneath');
  const error = new ConfigError('devices[1].host', '"x" is not a PCI address', { cause });
  t.is(error.message, 'devices[1].host: "x" is not a PCI address');
  t.deepEqual([error.name, error.path, error.cause], ['ConfigError', 'devices[1].host', cause]);
});

test('error numbers have names, negated or not', t => {
  t.deepEqual([22, -22, -95, 1234].map(errnoName), ['EINVAL', 'EINVAL', 'EOPNOTSUPP', 'errno 1234']);
});
