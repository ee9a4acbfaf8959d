import { QmpError } from './errors.js';
import { isObject, type JsonObject } from './json/parse.js';

/** What a client asks for. */
export interface Request {
  readonly command: string;
  readonly args: JsonObject;
  /** Out of band: before what was asked earlier. */
  readonly oob: boolean;
}

/** Takes a request apart; `oob`: whether out-of-band ones are allowed. @throws QmpError if it is none. */
export function readRequest(value: unknown, oob: boolean): Request {
  if (!isObject(value)) throw new QmpError('QMP input must be a JSON object');
  const allowed = ['execute', 'arguments', 'id', ...(oob ? ['exec-oob'] : [])];
  const unexpected = Object.keys(value).find(name => !allowed.includes(name));
  if (unexpected !== undefined) throw new QmpError(`QMP input member '${unexpected}' is unexpected`);
  const named = ['execute', 'exec-oob'].filter(name => name in value);
  if (named.length > 1) throw new QmpError("QMP input member 'exec-oob' is in conflict with member 'execute'");
  const [name] = named;
  if (name === undefined) throw new QmpError("QMP input lacks member 'execute'");
  const command = value[name];
  if (typeof command !== 'string') throw new QmpError(`QMP input member '${name}' must be a string`);
  const args = 'arguments' in value ? value['arguments'] : {};
  if (!isObject(args)) throw new QmpError("QMP input member 'arguments' must be an object");
  return { command, args, oob: name === 'exec-oob' };
}
