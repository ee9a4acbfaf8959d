import { ConfigError } from '../errors.js';
import { didYouMean } from './did-you-mean.js';
import type { Property } from './property.js';

/** Declared properties by name. */
export type Properties = Readonly<Record<string, Property<unknown>>>;

/** The parsed values of declared properties. */
export type Values<S extends Properties> = { readonly [K in keyof S]: S[K] extends Property<infer T> ? T : never };

/** What people may write for declared properties: typed values or text, each optional. */
export type Options<S extends Properties> = {
  readonly [K in keyof S]?: (S[K] extends Property<infer T> ? T : never) | string | undefined;
};

/** A property, for help texts. */
export interface PropertyHelp {
  readonly name: string;
  readonly type: string;
  readonly fallback: unknown;
  readonly required: boolean;
  readonly doc: string;
  readonly aliases: readonly string[];
}

/** The options of a device, board or host: parses what a person wrote to `C`. */
export interface Schema<C> {
  /**
   * The values, each given or its default. Names may be written as declared, by an alias, or in camel case (`cachingMode`);
   * undefined counts as not given.
   * @throws ConfigError at `path.property` that names the value and what was expected.
   */
  parse(path: string, input: Readonly<Record<string, unknown>>): C;
  /** Whether `name` is a property, however it is written. */
  has(name: string): boolean;
  help(): readonly PropertyHelp[];
}

/**
 * Declares options. `aliases` maps further names to declared ones.
 * @throws RangeError if two names are the same or an alias leads nowhere.
 */
export function properties<S extends Properties>(
  declared: S,
  aliases: Readonly<Record<string, keyof S & string>> = {},
): Schema<Values<S>> {
  const canonical = new Map<string, string>();
  const claim = (written: string, name: string): void => {
    if ((canonical.get(written) ?? name) !== name) throw new RangeError(`two properties are called ${written}`);
    canonical.set(written, name);
  };
  for (const name of Object.keys(declared)) {
    claim(name, name);
    claim(camelCase(name), name);
  }
  for (const [alias, name] of Object.entries(aliases)) {
    if (!Object.hasOwn(declared, name)) throw new RangeError(`${alias} is an alias of ${name}, which is not declared`);
    claim(alias, name);
    claim(camelCase(alias), name);
  }

  const names = [...Object.keys(declared), ...Object.keys(aliases)];
  const parse = (path: string, input: Readonly<Record<string, unknown>>): Values<S> => {
    const given = new Map<string, { readonly written: string; readonly value: unknown }>();
    for (const [written, value] of Object.entries(input)) {
      const name = canonical.get(written);
      if (name === undefined) throw new ConfigError(`${path}.${written}`, unknownProperty(written, value, names));
      if (value === undefined) continue;
      const before = given.get(name);
      if (before !== undefined) {
        throw new ConfigError(`${path}.${written}`, `given twice: "${before.written}" is the same property`);
      }
      given.set(name, { written, value });
    }
    const values: Record<string, unknown> = {};
    for (const [name, property] of Object.entries(declared)) {
      values[name] = valueOf(path, name, property, given.get(name));
    }
    return values as Values<S>;
  };

  const help = (): PropertyHelp[] =>
    Object.entries(declared).map(([name, { type, fallback, required, doc }]) => {
      const others = Object.keys(aliases).filter(alias => aliases[alias] === name);
      return { name, type, fallback: required ? undefined : fallback, required, doc, aliases: others };
    });

  return { parse, has: name => canonical.has(name), help };
}

function valueOf(
  path: string,
  name: string,
  property: Property<unknown>,
  given: { readonly written: string; readonly value: unknown } | undefined,
): unknown {
  if (given === undefined) {
    if (property.required)
      throw new ConfigError(`${path}.${name}`, `must be given (${property.type}): ${property.doc}`);
    return property.fallback;
  }
  try {
    return property.parse(given.value);
  } catch (failure) {
    if (!(failure instanceof RangeError)) throw failure;
    throw new ConfigError(`${path}.${given.written}`, failure.message);
  }
}

function unknownProperty(written: string, value: unknown, names: readonly string[]): string {
  if (written.startsWith('no') && value === 'on' && names.includes(written.slice(2))) {
    return `unknown property; write "${written.slice(2)}=off"`;
  }
  return `unknown property${didYouMean(written, names)}`;
}

/** `caching-mode` as TypeScript writes it: `cachingMode`. */
function camelCase(name: string): string {
  return name.replace(/[-_]+([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}
