// SPDX-License-Identifier: Apache-2.0

// Package detect looks at when the verified samples of one stream were taken and when they came: delay, a source clock that stands
// still or goes back, more samples than the sampling rate allows, silence, and parts of a multiplexed array that are not fresh.
// What is missing by its counter is the business of replay.Gaps.
//
// It takes authenticated input only. It decides about no sample: what it finds is flagged and reported.
//
// It may import agent/policy.
package detect
