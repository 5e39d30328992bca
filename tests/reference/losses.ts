import { sigmoid } from "./layers.ts";
import { at, type Numbers } from "./linear.ts";

/** Settings of the SimPO objective (arXiv 2405.14734), `gamma` in its absolute form. */
export interface SimpoSettings {
  readonly beta: number;
  readonly gamma: number;
  readonly lossType: "sigmoid" | "hinge";
  /** 0 unless given; hinge ignores it. */
  readonly labelSmoothing?: number;
  /** Weight of the chosen responses' token-mean cross-entropy; 0 unless given. */
  readonly sftWeight?: number;
}

/** Loss, its gradient and the parts that metrics are made of. */
export interface SimpoResult {
  /** Mean over pairs of the preference loss, plus sftWeight times the token-mean cross-entropy. */
  readonly loss: number;
  /** The preference loss of each pair, without the likelihood term, [pairs]. */
  readonly pairLosses: Float64Array;
  /** Token-mean cross-entropy of the chosen responses. */
  readonly sftLoss: number;
  /** dLoss / dAverage, [2 · pairs], in the order of the averages. */
  readonly dAverages: Float64Array;
}

/** log(sigmoid(x)), without overflow. */
function logSigmoid(x: number): number {
  return Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)));
}

/**
 * SimPO's loss over pairs. With s the average log-probability and z = s(chosen) - s(rejected) - gamma / beta:
 * sigmoid is -(1 - eps) · logsigmoid(beta z) - eps · logsigmoid(-beta z), hinge is max(0, 1 - beta z).
 *
 * @param averages [2 · pairs]: chosen and rejected of the first pair, then of the second, ...
 * @param numTokens scored tokens of each sequence, [2 · pairs]; only the likelihood term reads them
 */
export function simpoLoss(averages: Numbers, numTokens: Numbers, settings: SimpoSettings): SimpoResult {
  const { beta, gamma, lossType, labelSmoothing = 0, sftWeight = 0 } = settings;
  const pairs = averages.length / 2;
  const pairLosses = new Float64Array(pairs);
  const dAverages = new Float64Array(averages.length);
  let chosenTokens = 0;
  let negativeLogLikelihood = 0;
  for (let pair = 0; pair < pairs; pair++) {
    const argument = beta * (at(averages, 2 * pair) - at(averages, 2 * pair + 1) - gamma / beta);
    let slope: number;
    if (lossType === "hinge") {
      pairLosses[pair] = Math.max(0, 1 - argument);
      slope = argument < 1 ? -1 : 0;
    } else {
      pairLosses[pair] = -(1 - labelSmoothing) * logSigmoid(argument) -
        labelSmoothing * logSigmoid(-argument);
      slope = -(1 - labelSmoothing) * sigmoid(-argument) + labelSmoothing * sigmoid(argument);
    }
    dAverages[2 * pair] = beta * slope / pairs;
    dAverages[2 * pair + 1] = -beta * slope / pairs;
    chosenTokens += at(numTokens, 2 * pair);
    negativeLogLikelihood -= at(averages, 2 * pair) * at(numTokens, 2 * pair);
  }
  for (let pair = 0; pair < pairs; pair++) {
    dAverages[2 * pair]! -= sftWeight * at(numTokens, 2 * pair) / chosenTokens;
  }
  const sftLoss = negativeLogLikelihood / chosenTokens;
  const loss = pairLosses.reduce((sum, value) => sum + value, 0) / pairs + sftWeight * sftLoss;
  return { loss, pairLosses, sftLoss, dAverages };
}

/**
 * The likelihood objective alone: token-mean cross-entropy over every sequence.
 *
 * @param averages [sequences]
 * @param numTokens [sequences]
 */
export function sftLoss(
  averages: Numbers,
  numTokens: Numbers,
): { loss: number; dAverages: Float64Array } {
  let tokens = 0;
  let sum = 0;
  for (let i = 0; i < averages.length; i++) {
    tokens += at(numTokens, i);
    sum -= at(averages, i) * at(numTokens, i);
  }
  const dAverages = Float64Array.from({ length: averages.length }, (_, i) => -at(numTokens, i) / tokens);
  return { loss: sum / tokens, dAverages };
}
