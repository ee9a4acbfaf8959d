/** What a machine asks of its host, as raw bytes, in order: the end at which propagation is judged. */
import { ForwardingSyscalls, type HostSyscalls, type IoctlArgument } from '@remora/host';

export interface LoggedIoctl {
  readonly fd: number;
  readonly request: number;
  /** The argument as handed over; hexadecimal. */
  readonly bytes: string;
  /** The argument, if it is a number. */
  readonly value: number | undefined;
  /** The argument as the kernel left it. */
  readonly answer: Uint8Array;
  readonly result: number;
}

export class HostLog extends ForwardingSyscalls {
  readonly calls: LoggedIoctl[] = [];

  constructor(next: HostSyscalls) {
    super(next);
  }

  override ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    const bytes = argument instanceof Uint8Array ? Buffer.from(argument).toString('hex') : '';
    const result = super.ioctl(fd, request, argument);
    const answer = argument instanceof Uint8Array ? argument.slice() : new Uint8Array();
    const value = typeof argument === 'number' ? argument : undefined;
    this.calls.push({ fd, request, bytes, value, answer, result });
    return result;
  }
}
