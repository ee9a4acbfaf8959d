import type { ContainerModule } from 'inversify';
import { ConfigError } from './errors.js';

/** The plug-in interface of this Remora. It changes when a plug-in that was written for it would break. */
export const PLUGIN_API = 1;

/** What a package brings: bindings of device kinds, boards, hosts to their tokens. It never rebinds a token of Remora's own. */
export interface Plugin {
  /** The package's name. */
  readonly name: string;
  /** The interface it was written for. */
  readonly api: typeof PLUGIN_API;
  readonly module: ContainerModule;
}

/** Declares a plug-in; the default export of a plug-in module. @throws ConfigError if it was written for another interface. */
export function definePlugin(plugin: Plugin): Plugin {
  return checkPlugin('plug-in', plugin);
}

/**
 * Whether `candidate`, which some package exports, is a plug-in for this Remora.
 * @throws ConfigError at `path` that names the plug-in and the interface that was expected.
 */
export function checkPlugin(path: string, candidate: unknown): Plugin {
  const { name, api, module } = (candidate ?? {}) as { name?: unknown; api?: unknown; module?: unknown };
  if (typeof name !== 'string' || name === '')
    throw new ConfigError(path, 'is not a plug-in: expected {name, api, module}');
  if (api !== PLUGIN_API) {
    throw new ConfigError(path, `"${name}" was written for plug-in API ${String(api)}, and this is API ${PLUGIN_API}`);
  }
  if (typeof module !== 'object' || module === null) throw new ConfigError(path, `"${name}" has no ContainerModule`);
  return candidate as Plugin;
}
