import 'reflect-metadata';
import test from 'ava';
import { Container, ContainerModule } from 'inversify';
import { ConfigError } from './errors.js';
import { checkPlugin, definePlugin, PLUGIN_API } from './plugin.js';
import { token } from './token.js';

const Kinds = token<string>('Kinds');
const module = new ContainerModule(({ bind }) => void bind<string>(Kinds).toConstantValue('edu'));

test('a plug-in brings its bindings', t => {
  const plugin = definePlugin({ name: '@acme/edu', api: 1, module });
  const container = new Container();
  container.load(plugin.module);
  t.deepEqual(container.getAll<string>(Kinds), ['edu']);
});

test('a plug-in for another interface is refused by name', t => {
  t.throws(() => checkPlugin('plugins[1]', { name: '@acme/edu', api: PLUGIN_API + 1, module }), {
    instanceOf: ConfigError,
    message: 'plugins[1]: "@acme/edu" was written for plug-in API 2, and this is API 1',
  });
  t.throws(() => checkPlugin('plugins[1]', { name: '@acme/edu', module }), { message: /for plug-in API undefined/ });
});

test('what is no plug-in is refused', t => {
  for (const other of [undefined, null, 3, {}, { name: '' }]) {
    t.throws(() => checkPlugin('plugins[0]', other), {
      message: 'plugins[0]: is not a plug-in: expected {name, api, module}',
    });
  }
  t.throws(() => checkPlugin('plugins[0]', { name: 'x', api: 1 }), {
    message: 'plugins[0]: "x" has no ContainerModule',
  });
});
