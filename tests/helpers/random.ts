/** A seeded source of random numbers for tests: the same seed gives the same numbers everywhere. */
export interface Random {
  /** Uniform in [0, 1). */
  uniform(): number;
  /** Standard normal. */
  normal(): number;
  /** Uniform integer in [0, limit). */
  integer(limit: number): number;
  /** `length` normal values of the given deviation, rounded to f32 so that GPU and reference get equal inputs. */
  normals(length: number, deviation?: number): Float32Array;
  /** `length` integers in [0, limit). */
  integers(length: number, limit: number): Uint32Array;
}

/** Makes a {@link Random} from a 32-bit seed (mulberry32, Box-Muller). */
export function random(seed: number): Random {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  const integer = (limit: number) => Math.floor(uniform() * limit);
  return {
    uniform,
    normal,
    integer,
    normals: (length, deviation = 1) => Float32Array.from({ length }, () => normal() * deviation),
    integers: (length, limit) => Uint32Array.from({ length }, () => integer(limit)),
  };
}
