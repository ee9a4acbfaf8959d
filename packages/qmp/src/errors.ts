/** Error classes of QMP; clients may look at these, and at nothing else of an error. */
export type QmpErrorClass = 'GenericError' | 'CommandNotFound' | 'DeviceNotActive' | 'DeviceNotFound' | 'KVMMissingCap';

/** An error that a client gets as the reply to its command. */
export class QmpError extends Error {
  override readonly name = 'QmpError';
  readonly errorClass: QmpErrorClass;

  constructor(message: string, errorClass: QmpErrorClass = 'GenericError', options?: ErrorOptions) {
    super(message, options);
    this.errorClass = errorClass;
  }
}

/** There is no device, or other object, that is called `name`. */
export function deviceNotFound(name: string): QmpError {
  return new QmpError(`Device '${name}' not found`, 'DeviceNotFound');
}
