import { DeviceLostError } from "../errors.ts";
import { GpuMemoryError } from "./memory.ts";

/** The first fault of a device, kept for whoever waits for results: createBuffer and dispatch themselves never throw. */
export class DeviceFaults {
  #first: Error | null = null;
  #closed = false;

  constructor(device: GPUDevice) {
    device.addEventListener("uncapturederror", (event) => {
      const { error } = event as GPUUncapturedErrorEvent;
      const Fault = error instanceof GPUOutOfMemoryError ? GpuMemoryError : Error;
      this.#first ??= new Fault(`GPU: ${error.message}`);
    });
    device.lost.then((lost) => {
      // Where memory ran out the device may be lost by that: to go on would only lose it again.
      if (this.#closed || this.#first instanceof GpuMemoryError) return;
      this.#first = new DeviceLostError(`The GPU device was lost: ${lost.message || lost.reason}.`);
    });
  }

  /** Puts a fault in the place of the first. @returns it */
  set(fault: Error): Error {
    return this.#first = fault;
  }

  /** @throws the first fault */
  check(): void {
    if (this.#first) throw this.#first;
  }

  /** From now on the loss of the device is no fault. */
  close(): void {
    this.#closed = true;
  }
}
