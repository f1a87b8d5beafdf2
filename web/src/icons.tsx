// Icons, drawn for this client on a 24-pixel grid. Decoration only: the control around one has the name.

import type { ComponentChildren } from "preact";

function icon(children: ComponentChildren) {
  return function Icon({ size = 22 }: { size?: number }) {
    return (
      <svg
        width={size}
        height={size}
        viewBox="0 0 24 24"
        fill="none"
        stroke="currentColor"
        stroke-width="1.8"
        stroke-linecap="round"
        stroke-linejoin="round"
        aria-hidden="true"
        focusable="false"
      >
        {children}
      </svg>
    );
  };
}

const slash = <path d="M4 4l16 16" />;

export const Mic = icon(
  <>
    <rect x="9" y="3" width="6" height="11" rx="3" />
    <path d="M5.500 11.500a6.500 6.500 0 0 0 13 0M12 18v3" />
  </>,
);
export const MicOff = icon(
  <>
    <path d="M9 9v2a3 3 0 0 0 4.700 2.500M15 10.500V6a3 3 0 0 0-5.800-1" />
    <path d="M5.500 11.500a6.500 6.500 0 0 0 10.300 5.300M18.500 11.500a6.400 6.400 0 0 1-.4 2.200M12 18v3" />
    {slash}
  </>,
);
export const Camera = icon(
  <>
    <rect x="2.500" y="6" width="13" height="12" rx="3" />
    <path d="M15.500 10.500l6-3.300v9.600l-6-3.300" />
  </>,
);
export const CameraOff = icon(
  <>
    <path d="M6 6h-.5a3 3 0 0 0-3 3v6a3 3 0 0 0 3 3h7a3 3 0 0 0 2.600-1.500M10.500 6h2a3 3 0 0 1 3 3v1.500l6-3.300v9.600l-3-1.650" />
    {slash}
  </>,
);
export const Screen = icon(
  <>
    <rect x="2.500" y="4" width="19" height="13" rx="2.500" />
    <path d="M8.500 20.500h7M12 13.500V8M9.500 10.200L12 7.700l2.500 2.500" />
  </>,
);
export const ScreenStop = icon(
  <>
    <rect x="2.500" y="4" width="19" height="13" rx="2.500" />
    <path d="M8.500 20.500h7M10 8.500l4 4M14 8.500l-4 4" />
  </>,
);
export const People = icon(
  <>
    <circle cx="9" cy="8" r="3.300" />
    <path d="M2.800 19.500c.5-3.500 3-5.500 6.200-5.500s5.700 2 6.200 5.500M15.500 5a3.300 3.300 0 0 1 0 6M17.800 14.300c1.900.7 3.100 2.500 3.400 5.200" />
  </>,
);
export const Leave = icon(
  <path d="M3.200 13.800c-.9-1-.8-2.400.2-3.300 4.900-4 12.300-4 17.200 0 1 .9 1.100 2.300.2 3.300l-1 1.100c-.5.600-1.300.700-2 .3l-2.300-1.400a1.600 1.600 0 0 1-.8-1.400v-1.500a12 12 0 0 0-5.400 0v1.500c0 .6-.3 1.100-.8 1.400l-2.300 1.400c-.7.4-1.500.3-2-.3z" />,
);
export const Settings = icon(<path d="M4 7h9M17 7h3M4 17h3M11 17h9M13 4.500v5M11 14.500v5" />);
export const Link = icon(
  <path d="M10 14a4 4 0 0 0 5.700 0l3-3A4 4 0 0 0 13 5.300l-1 1M14 10a4 4 0 0 0-5.700 0l-3 3A4 4 0 0 0 11 18.700l1-1" />,
);
export const Check = icon(<path d="M5 12.500l4.500 4.500L19 7.500" />);
export const Pin = icon(<path d="M9 4h6l-.8 5.500 3 3.500H6.800l3-3.500zM12 13v7" />);
export const Unpin = icon(
  <>
    <path d="M11 4h4l-.8 5.500 3 3.500M13 13H6.800l3-3.500M12 13v7" />
    {slash}
  </>,
);
export const Close = icon(<path d="M6 6l12 12M18 6L6 18" />);
export const Bot = icon(
  <>
    <rect x="4" y="8" width="16" height="11" rx="3.500" />
    <path d="M12 8V4.500M9 12.800v1.400M15 12.800v1.400" />
  </>,
);
export const Sound = icon(
  <path d="M4 9.500v5h3.500L12 18.500v-13L7.500 9.500zM15.500 9a4.200 4.200 0 0 1 0 6M18 6.500a8 8 0 0 1 0 11" />,
);
export const Alert = icon(
  <path d="M12 8.500v4.500M12 16.300v.2M10.300 4.200L2.800 17.300A2 2 0 0 0 4.500 20.300h15a2 2 0 0 0 1.700-3L13.700 4.200a2 2 0 0 0-3.400 0z" />,
);

/** Two voices that face each other: call and response. */
export function Logo({ size = 26 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" focusable="false" class="logo">
      <rect width="32" height="32" rx="9" />
      <g fill="none" stroke="#fff" stroke-width="2.600" stroke-linecap="round">
        <path d="M13.500 9.500a9.200 9.200 0 0 0 0 13M18.500 22.500a9.200 9.200 0 0 0 0-13" />
        <path
          d="M8.800 6.500a14.500 14.500 0 0 0 0 19M23.200 25.500a14.500 14.500 0 0 0 0-19"
          opacity=".55"
        />
      </g>
    </svg>
  );
}
